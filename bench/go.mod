module github.com/go-taskmanager/taskmanager/bench

go 1.25.0

replace github.com/go-taskmanager/taskmanager => ..

require (
	github.com/go-taskmanager/taskmanager v0.0.0-00010101000000-000000000000
	github.com/oklog/run v1.2.0
	github.com/sourcegraph/conc v0.3.0
	github.com/stretchr/testify v1.12.1
	github.com/thejerf/suture/v4 v4.0.6
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.22.0
	golang.org/x/time v0.15.0
	gopkg.in/tomb.v2 v2.0.0-20161208151619-d5d1b5820637
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.50.0 // indirect
)
