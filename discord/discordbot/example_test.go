package discordbot_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// In a service, the token and the channel's id come from its configuration, and the session is the
// one that its bot has already. This one talks to a fake.
func ExampleNew() {
	fake := discordtest.New()
	fake.AddBot("token", "1234")
	session, err := discordgo.New("Bot token")
	if err != nil {
		panic(err)
	}
	session.Client.Transport = fake.Transport()

	reporter, err := discordbot.New(session, "1234", discordbot.WithMentionRole("5678"))
	if err != nil {
		panic(err)
	}
	m, err := taskmanager.New(taskmanager.WithReporter(reporter), taskmanager.WithMaxRestarts(0))
	if err != nil {
		panic(err)
	}
	task, err := m.StartTask("poller", func(context.Context) error { return errors.New("connection refused") })
	if err != nil {
		panic(err)
	}
	_ = task.Wait(context.Background())
	_ = m.Shutdown(context.Background())

	message := fake.Messages()[0]
	fmt.Println(message.Content)
	fmt.Println(message.Embeds[0].Title)
	// Output:
	// <@&5678>
	// 🛑 poller failed for good, gave up
}
