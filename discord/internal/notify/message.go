package notify

// A Message is the body of the request that sends a message, in Discord's form. The same one may be
// sent several times; it must not be modified.
type Message struct {
	Content         string          `json:"content,omitempty"`
	Username        string          `json:"username,omitempty"`   // webhooks alone
	AvatarURL       string          `json:"avatar_url,omitempty"` // webhooks alone
	Embeds          []Embed         `json:"embeds"`
	AllowedMentions AllowedMentions `json:"allowed_mentions"`
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

// size is what the embed takes of maxTotal.
func (e *Embed) size() int {
	n := length(e.Title) + length(e.Description)
	for _, f := range e.Fields {
		n += length(f.Name) + length(f.Value)
	}
	return n
}
