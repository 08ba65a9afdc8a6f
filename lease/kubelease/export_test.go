package kubelease

// For the tests with a real server, whose package uses this one.
var (
	NewStore    = newStore
	LeaseObject = leaseObject
)
