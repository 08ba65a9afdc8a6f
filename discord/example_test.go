package discord_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// From now on the channel of the webhook hears of tasks that fail, are given up, or are stuck.
func Example() {
	m, err := taskmanager.New(taskmanager.WithName("billing"))
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := discord.NewWebhook(os.Getenv("DISCORD_WEBHOOK_URL"))
	if err != nil {
		fmt.Println(err) // it says what is wrong, without the URL
		return
	}
	m.SetReporter(w)
}

// On-call people are mentioned when a task has been given up. Here a fake Discord shows what the
// channel would.
func ExampleNewWebhook() {
	channel, url, done := fakeChannel()
	defer done()

	w, err := discord.NewWebhook(url,
		discord.WithUsername("Task watch"),
		discord.WithMentionRole("165511591545143296"), // only when a task is given up
		discord.WithEvents(taskmanager.EventGaveUp, taskmanager.EventStuck),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(w) // not its token

	m, err := taskmanager.New(taskmanager.WithReporter(w), silent)
	if err != nil {
		fmt.Println(err)
		return
	}
	task, err := m.StartTask("consumer", func(context.Context) error {
		return errors.New("connection refused")
	}, taskmanager.WithMaxRestarts(2), taskmanager.WithBackoff(time.Millisecond, time.Millisecond))
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = task.Wait(context.Background()) // until it has been given up
	_ = m.Shutdown(context.Background())

	for _, message := range channel.Messages() {
		fmt.Println(message.Author, message.Notified)
		fmt.Println(message.Embeds[0].Title)
	}
	// Output:
	// discord.Webhook(223704706495545344)
	// Task watch [<@&165511591545143296>]
	// 🛑 consumer failed for good, gave up
}

// fakeChannel returns a Discord on loopback and the URL of a webhook.
func fakeChannel() (d *discordtest.Server, url string, done func()) {
	d = discordtest.New()
	d.AddWebhook(hookID, hookToken, channelID)
	server := httptest.NewServer(d)
	return d, server.URL + "/api/webhooks/" + hookID + "/" + hookToken, server.Close
}
