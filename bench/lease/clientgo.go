package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// A manner is how a service uses client-go's elector.
type manner int

const (
	// keeping: the lease expires after the process has ended.
	keeping manner = iota
	// releasing: ReleaseOnCancel, with the context of the work: that which OnStartedLeading is given.
	releasing
	// releasingAfter: ReleaseOnCancel, as its documentation wants it: the work has a context of its own, and the elector's is canceled
	// when the work has returned.
	releasingAfter
)

// elect returns replicas that use client-go's elector. A TTL of 15 s gives the durations that the components of Kubernetes have: 15 s, 10 s
// and 2 s.
func elect(how manner) func(ctx context.Context, o order, say func(what happening)) error {
	return func(ctx context.Context, o order, say func(what happening)) error {
		klog.SetLogger(klog.Logger{}) // says nothing
		var wg sync.WaitGroup
		for i := range o.Replicas {
			// Without a limit of requests: the default, 5 a second, is for one lease.
			client, err := clientset.NewForConfig(&rest.Config{
				Host: o.Place.URL, BearerToken: o.Place.Token, QPS: -1,
				TLSClientConfig: rest.TLSClientConfig{CAData: o.Place.Authority},
			})
			if err != nil {
				return err
			}
			identity := fmt.Sprintf("replica-%d-%d", i, clock())
			for j := range o.Leases {
				e, err := newElection(client, identity, o, j, how, say)
				if err != nil {
					return err
				}
				wg.Go(func() { e.run(ctx) })
			}
		}
		say(started)
		<-ctx.Done()
		wg.Wait()
		return nil
	}
}

// An election is an elector, and the work that its leader does.
type election struct {
	elector *leaderelection.LeaderElector
	how     manner
	linger  time.Duration
	say     func(what happening)
	stop    context.Context // ends when the service stops; set before the elector runs
	worked  sync.WaitGroup  // the work, while it executes
}

func newElection(client *clientset.Clientset, identity string, o order, i int, how manner, say func(what happening)) (*election, error) {
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, o.Place.Namespace, o.Place.Pool+"-"+leaseName(i),
		client.CoreV1(), client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: identity})
	if err != nil {
		return nil, err
	}
	x := &election{how: how, linger: o.Linger, say: say}
	x.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: o.TTL, RenewDeadline: o.TTL * 2 / 3, RetryPeriod: o.TTL * 2 / 15,
		ReleaseOnCancel: how != keeping,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: x.work,
			OnStoppedLeading: func() {},
		},
	})
	return x, err
}

// run takes part in the election until stop ends, and returns when the work has returned, if there was some.
func (x *election) run(stop context.Context) {
	x.stop = stop
	ctx := stop
	if x.how == releasingAfter {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(context.Background())
		context.AfterFunc(stop, func() {
			x.worked.Wait()
			cancel()
		})
	}
	x.elector.Run(ctx)
	x.worked.Wait()
}

// work is what the leader does.
func (x *election) work(ctx context.Context) {
	x.worked.Add(1)
	defer x.worked.Done()
	x.say(began)
	select {
	case <-ctx.Done():
	case <-x.stop.Done():
	}
	time.Sleep(x.linger)
	x.say(ended)
}
