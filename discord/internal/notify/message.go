package notify

import (
	"crypto/rand"

	"github.com/go-taskmanager/taskmanager"
)

// A Message is events that are told together. The same one may be sent several times. It is rendered
// each time: by then more secrets may be known, which must not show in it.
type Message struct {
	notifier *Notifier
	events   []taskmanager.Event // of kinds that are wanted
	nonce    string
	bare     bool // without the texts of errors
	unsure   bool // it may have been taken: an attempt has had no answer that says so, or not
}

func (n *Notifier) newMessage(events []taskmanager.Event) *Message {
	const most = 25 // characters of a nonce
	return &Message{notifier: n, events: events, nonce: rand.Text()[:most]}
}

// withoutTexts returns a message about the same events, without the texts of their errors.
func (m *Message) withoutTexts() *Message {
	bare := m.notifier.newMessage(m.events)
	bare.bare = true
	return bare
}

// hasTexts reports whether the message shows texts that withoutTexts leaves out.
func (m *Message) hasTexts() bool {
	for i := range m.events {
		if m.events[i].Err != nil && !m.bare {
			return true
		}
	}
	return false
}

// Body renders the message.
func (m *Message) Body() *Body {
	n := m.notifier
	r := renderer{config: &n.config, redact: n.redactor(), bare: m.bare}
	b := r.body(m.events)
	if b.size() > maxTotal {
		// Secrets have become known since it was found to fit in, and each was shorter than what stands in its place.
		r.bare = true
		b = r.body(m.events)
	}
	if n.config.Nonce {
		b.Nonce, b.EnforceNonce = m.nonce, true
	}
	return b
}

// A Body is the body of the request that sends a message, in Discord's form.
type Body struct {
	Content         string          `json:"content,omitempty"`
	Username        string          `json:"username,omitempty"`    // webhooks alone
	AvatarURL       string          `json:"avatar_url,omitempty"`  // webhooks alone
	ThreadName      string          `json:"thread_name,omitempty"` // webhooks alone
	Embeds          []Embed         `json:"embeds"`
	AllowedMentions AllowedMentions `json:"allowed_mentions"`
	Nonce           string          `json:"nonce,omitempty"`         // bots alone
	EnforceNonce    bool            `json:"enforce_nonce,omitempty"` // bots alone
}

// An Embed shows one event.
type Embed struct {
	Title       string  `json:"title"`
	Description string  `json:"description,omitempty"`
	Timestamp   string  `json:"timestamp,omitempty"` // RFC 3339, in UTC
	Color       int     `json:"color"`               // 0xRRGGBB
	Fields      []Field `json:"fields,omitempty"`
}

// A Field is a small part of an embed.
type Field struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Inline bool   `json:"inline,omitempty"`
}

// AllowedMentions says who may be notified by the content. Without it, or with null for Parse,
// everybody whom the text names would be.
type AllowedMentions struct {
	Parse []string `json:"parse"` // always empty, never nil
	Roles []string `json:"roles,omitempty"`
	Users []string `json:"users,omitempty"`
}

// What Discord refuses to exceed. Those of content, username and footer don't matter here: the
// content is at most two mentions, a username is checked when it is set, and there is no footer.
const (
	maxEmbeds      = 10
	maxTitle       = 256
	maxDescription = 4096
	maxFields      = 25
	maxFieldName   = 256
	maxFieldValue  = 1024
	maxTotal       = 6000 // titles, descriptions, names and values of all embeds together
)

// size is what the embeds take of maxTotal.
func (b *Body) size() (n int) {
	for i := range b.Embeds {
		n += b.Embeds[i].size()
	}
	return n
}

// size is what the embed takes of maxTotal.
func (e *Embed) size() int {
	n := length(e.Title) + length(e.Description)
	for _, f := range e.Fields {
		n += length(f.Name) + length(f.Value)
	}
	return n
}
