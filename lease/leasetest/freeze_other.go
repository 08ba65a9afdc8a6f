//go:build !unix

package leasetest

// freeze skips the test: no process can be frozen here.
func (p *process) freeze() {
	p.fleet.t.Helper()
	p.fleet.t.Skip("no process can be frozen here: it takes SIGSTOP")
}

// thaw is for a frozen process.
func (p *process) thaw() {}
