// Package kubelease makes leases with the API server of a Kubernetes cluster: it is an engine of module lease that keeps its sessions
// and leases in objects of coordination.k8s.io/v1, kind Lease. It speaks HTTP itself and needs no Kubernetes library.
//
// # Usage
//
// In a pod whose service account has the Role of [RBAC]:
//
//	cfg, err := kubelease.InCluster()
//	engine, err := kubelease.New(cfg, "billing")
//	_, err = manager.StartTask("digest", sendDigests, taskmanager.WithLease(engine.Lease("digest")))
//
// # Objects
//
// All objects of a pool are in one namespace and have the label go-taskmanager.github.io/pool. The label go-taskmanager.github.io/kind
// tells the two kinds apart:
//
//   - session: a replica, named <pool>-s-<random>. Its holder is the name of the replica; a replica updates it at each beat, and
//     deletes it when it leaves. A name is never used again.
//   - lease: named <pool>-l-<the lease's name, as far as an object's name allows it>-<hash>. Its holder is a session, its
//     leaseTransitions are the token. It is written when it changes hands, and never deleted.
//
// A lease is free if it has no holder, or if its holder is a session that a read which sees all confirmed writes doesn't find. Each write
// names the version of the object that it replaces. No time in an object decides anything: they are for people.
//
//	kubectl get leases -l go-taskmanager.github.io/pool=billing
//
// shows who lives and who has what. Who deletes an object of kind lease by hand lets its token begin at 1 again, and lets a second
// replica have it at once; so stop all replicas before. Deleting a session by hand tells its replica that it has lost its leases, but
// lets others have them before it has heard of that.
//
// Electors of other programs take over an object whose renewTime stands still. None of them finds these by accident; none must be
// configured to use their names.
//
// # Load
//
// A replica sends two requests at each beat, whatever the number of leases: a list of the sessions and an update of its own. A watch
// tells of leases that have become free. It doesn't see sessions, since each of their beats would be an event for each replica: who
// removes a session frees its leases, and that is what the others hear of. What a watch misses is found at the next beat.
//
// A pool is for up to 100 replicas. To spread many names, have 64 to 1,024 leases and hash the names to those: each lease is an object
// of the cluster, and a list of many of them is what a claim of many of them costs.
package kubelease
