module github.com/go-taskmanager/taskmanager/lease/natslease

go 1.25.0

require github.com/go-taskmanager/taskmanager/lease v0.0.0

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/go-taskmanager/taskmanager v0.0.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/go-taskmanager/taskmanager => ../..

replace github.com/go-taskmanager/taskmanager/lease => ..
