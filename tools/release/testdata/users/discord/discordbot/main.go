// A user of discordbot.
package main

import (
	"context"
	"log"

	"github.com/bwmarrin/discordgo"
	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
)

func main() {
	session, err := discordgo.New("Bot token")
	if err != nil {
		log.Fatal(err)
	}
	reporter, err := discordbot.New(session, "123456789012345678")
	if err != nil {
		log.Fatal(err)
	}
	m, err := taskmanager.New(taskmanager.WithReporter(reporter))
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
