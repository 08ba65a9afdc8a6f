package discordbot

import (
	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
)

// An Option configures a [Reporter]; see [New]. Of one that is given twice, the last counts.
type Option interface {
	option() discord.Option
}

// option implements Option.
type option struct{ of discord.Option }

func (o option) option() discord.Option { return o.of }

// WithMentionRole sets a role, by its id, that is mentioned in messages which say that a task was
// given up. The default, and "", is none. Nobody else is ever mentioned, but by WithMentionUser.
func WithMentionRole(id string) Option { return option{discord.WithMentionRole(id)} }

// WithMentionUser does for a user what WithMentionRole does for a role. Both can be given.
func WithMentionUser(id string) Option { return option{discord.WithMentionUser(id)} }

// WithEvents sets what kinds of events are sent. Others are not, and Report returns nil for them:
// to the Manager they are delivered. The default is all that it is given, which from a Manager is
// EventFailed, EventGaveUp, EventStuck and EventRecovered.
func WithEvents(kinds ...taskmanager.EventKind) Option { return option{discord.WithEvents(kinds...)} }

// WithHost sets the name of the host that is shown with each event; "" is for none. The default is
// that of [os.Hostname].
func WithHost(name string) Option { return option{discord.WithHost(name)} }
