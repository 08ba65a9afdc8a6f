package discord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

var _ taskmanager.BatchReporter = (*discord.Reporter)(nil)

// asBot sends messages as a bot of the fake may.
func asBot(client *http.Client, token string) discord.SendFunc {
	return func(ctx context.Context, m *discord.Message) (*discord.Response, error) {
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://discord.com/api/v10/channels/"+channelID+"/messages", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bot "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return discord.ReadResponse(resp), nil
	}
}

// Whoever has another way to send has the same messages, the same patience and the same discretion.
func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.AddBot("bot-token", channelID)
		r, err := discord.NewReporter(asBot(client, "bot-token"), discord.WithNonce(), discord.WithHost(""),
			discord.WithSecrets(func() []string { return []string{"bot-token"} }))
		require.NoError(t, err)
		e := failed()
		e.Err = errors.New("401 for bot-token")
		d.Fail(1, discordtest.Status(502))
		d.Fail(2, discordtest.Lose())
		d.Fail(1, discordtest.RateLimited(3*time.Second, false))
		err = r.Report(t.Context(), e)
		require.ErrorContains(t, err, "429")
		require.NoError(t, r.Report(t.Context(), e))
		require.Len(t, d.Messages(), 1, "it was taken, and its answer lost, twice")
		text := d.Messages()[0].Text()
		assert.Contains(t, text, "consumer failed, will restart")
		assert.Contains(t, text, "401 for [redacted]")

		n, err := r.ReportBatch(t.Context(), []taskmanager.Event{failed(), failed()})
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		assert.Len(t, d.Messages(), 2)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", r, *r, r), "bot-token")
	})
}

func TestReporterIsRefused(t *testing.T) {
	send := asBot(http.DefaultClient, "bot-token")
	for _, c := range []struct {
		send   discord.SendFunc
		option discord.Option
		text   string
	}{
		{nil, discord.WithHost(""), "send <nil>: must not be nil"},
		{send, nil, "opts[0] <nil>: must not be nil"},
		{send, discord.WithMentionRole("ops"), `WithMentionRole("ops"): must be an id: a number of up to 20 digits`},
		{send, discord.WithSecrets(nil), "WithSecrets(<nil>): must not be nil"},
	} {
		_, err := discord.NewReporter(c.send, c.option)
		assert.EqualError(t, err, "taskmanager: "+c.text)
	}
	_, err := discord.NewReporter(send, discord.WithHTTPClient(http.DefaultClient))
	var refused *taskmanager.OptionError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "WithHTTPClient", refused.Option)
}

func TestReadResponse(t *testing.T) {
	body := &endlessBody{}
	r := discord.ReadResponse(&http.Response{StatusCode: http.StatusOK, Header: http.Header{"A": {"b"}}, Body: body})
	assert.Equal(t, http.StatusOK, r.Status)
	assert.Equal(t, http.Header{"A": {"b"}}, r.Header)
	assert.Len(t, r.Body, 64<<10)
	assert.False(t, body.closed, "that is for its caller")
}
