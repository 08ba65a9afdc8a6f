package discord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// Any library, or none, may send the messages: this posts them as a bot.
func ExampleNewReporter() {
	fake := discordtest.New()
	fake.AddBot("token", channelID)
	client := &http.Client{Transport: fake.Transport(), Timeout: 10 * time.Second}

	send := func(ctx context.Context, m *discord.Message) (*discord.Response, error) {
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		url := "https://discord.com/api/v10/channels/" + channelID + "/messages"
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bot token")
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return discord.ReadResponse(resp), nil
	}
	reporter, err := discord.NewReporter(send,
		discord.WithNonce(), // a lost answer shows nothing twice
		discord.WithSecrets(func() []string { return []string{"token"} }),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = reporter.Report(context.Background(), taskmanager.Event{
		Time: time.Now(), Task: "consumer", Kind: taskmanager.EventGaveUp, Err: errors.New("401: no such token"),
	})
	fmt.Println(err)
	fmt.Println(fake.Messages()[0].Embeds[0].Title)
	// Output:
	// <nil>
	// 🛑 consumer failed for good, gave up
}

// fakeChannel returns a Discord on loopback and the URL of a webhook.
func fakeChannel() (d *discordtest.Server, url string, done func()) {
	d = discordtest.New()
	d.AddWebhook(hookID, hookToken, channelID)
	server := httptest.NewServer(d)
	return d, server.URL + "/api/webhooks/" + hookID + "/" + hookToken, server.Close
}
