module github.com/go-taskmanager/taskmanager/dashboard/browsertest

go 1.25.0

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-taskmanager/taskmanager v0.0.0
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/go-taskmanager/taskmanager => ../..
