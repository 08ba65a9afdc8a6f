module github.com/go-taskmanager/taskmanager/examples/discordbot

go 1.25.0

require (
	github.com/bwmarrin/discordgo v0.29.0
	github.com/go-taskmanager/taskmanager v0.0.0
	github.com/go-taskmanager/taskmanager/discord/discordbot v0.0.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/gorilla/websocket v1.4.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.55.0 // indirect; what discordgo asks for is vulnerable
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace (
	github.com/go-taskmanager/taskmanager => ../..
	github.com/go-taskmanager/taskmanager/discord/discordbot => ../../discord/discordbot
)
