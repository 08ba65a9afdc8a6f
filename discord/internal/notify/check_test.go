package notify

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		config       Config
		option, text string
	}{
		{Config{Username: strings.Repeat("x", 81)}, "WithUsername", "must have 1 to 80 characters"},
		{Config{Username: strings.Repeat("🧨", 41)}, "WithUsername", "must have 1 to 80 characters"},
		{Config{Username: " "}, "WithUsername", "must have 1 to 80 characters"},
		{Config{Username: "a "}, "WithUsername", "without space around them"},
		{Config{Username: "a\nb"}, "WithUsername", "without control characters"},
		{Config{Username: "\xff"}, "WithUsername", "must be valid UTF-8"},
		{Config{Username: "Here"}, "WithUsername", "must not be everyone or here"},
		{Config{Username: "everyone"}, "WithUsername", "must not be everyone or here"},
		{Config{Username: "My DisCord bot"}, "WithUsername", "must not contain discord"},
		{Config{Username: "clyde2"}, "WithUsername", "must not contain clyde"},
		{Config{ThreadName: strings.Repeat("x", 101)}, "WithThreadName", "must have 1 to 100 characters"},
		{Config{ThreadName: " a"}, "WithThreadName", "without space around them"},
		{Config{ThreadName: "a\nb"}, "WithThreadName", "without control characters"},
		{Config{AvatarURL: "a.png"}, "WithAvatarURL", "must be an http or https URL"},
		{Config{AvatarURL: "ftp://example.com/a.png"}, "WithAvatarURL", "must be an http or https URL"},
		{Config{AvatarURL: "https:///a.png"}, "WithAvatarURL", "must be an http or https URL"},
		{Config{AvatarURL: "https://example.com/\n"}, "WithAvatarURL", "must be an http or https URL"},
		{Config{AvatarURL: "https://example.com/" + strings.Repeat("x", 2048)}, "WithAvatarURL", "at most 2048 bytes"},
		{Config{MentionRole: "@admins"}, "WithMentionRole", "must be an id"},
		{Config{MentionRole: "<@&1>"}, "WithMentionRole", "must be an id"},
		{Config{MentionUser: "0"}, "WithMentionUser", "must be an id"},
		{Config{MentionUser: "-1"}, "WithMentionUser", "must be an id"},
		{Config{MentionUser: "+1"}, "WithMentionUser", "must be an id"},
		{Config{MentionUser: "007"}, "WithMentionUser", "must be an id"},
		{Config{MentionUser: "18446744073709551616"}, "WithMentionUser", "must be an id"},
		{Config{Host: "a\x00"}, "WithHost", "without control characters"},
		{Config{Events: []taskmanager.EventKind{}}, "WithEvents", "needs at least one kind"},
		{Config{Events: []taskmanager.EventKind{taskmanager.EventFailed, 1000}}, "WithEvents", "is no EventKind"},
		{Config{Events: []taskmanager.EventKind{-1}}, "WithEvents", "is no EventKind"},
	} {
		_, err := New(c.config, nil)
		var refused *taskmanager.OptionError
		require.ErrorAs(t, err, &refused, "%+v", c.config)
		assert.Equal(t, c.option, refused.Option)
		assert.ErrorContains(t, err, c.text)
		assert.Less(t, len(err.Error()), 250)
		assert.NotContains(t, err.Error(), "\n")
	}
}

func TestNewAccepts(t *testing.T) {
	for _, c := range []Config{
		{},
		NewConfig(),
		{Username: strings.Repeat("🧨", 40), AvatarURL: "https://example.com/a.png?size=64"},
		// What Discord documents for the names of users is not for those of webhooks.
		{Username: "svc: prod"},
		{Username: "web@eu-1 #2 ```"},
		{ThreadName: "failures: prod"},
		{MentionRole: "18446744073709551615", MentionUser: "1"},
		{Events: []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStuck}},
	} {
		_, err := New(c, nil)
		assert.NoError(t, err, "%+v", c)
	}
}

// The caller may go on using what it has given.
func TestNewCopiesEvents(t *testing.T) {
	kinds := []taskmanager.EventKind{taskmanager.EventGaveUp}
	n := newRenderer(t, Config{Events: kinds})
	kinds[0] = taskmanager.EventFailed
	m, _ := n.Render([]taskmanager.Event{gaveUp()})
	assert.NotNil(t, m)
}
