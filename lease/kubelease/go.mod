module github.com/go-taskmanager/taskmanager/lease/kubelease

go 1.25.0

require (
	github.com/go-taskmanager/taskmanager/lease v0.0.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.22.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/go-taskmanager/taskmanager v0.0.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/go-taskmanager/taskmanager => ../..

replace github.com/go-taskmanager/taskmanager/lease => ..
