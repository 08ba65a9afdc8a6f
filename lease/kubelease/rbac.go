package kubelease

import _ "embed"

// RBAC is a manifest with the Role that a service account needs, named taskmanager-lease: all verbs that this package uses, on leases of
// coordination.k8s.io. It names no namespace, and no account: these are given with the RoleBinding that its comment shows.
//
//go:embed rbac.yaml
var RBAC string
