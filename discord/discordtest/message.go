package discordtest

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Message is one that a channel shows.
type Message struct {
	ID        string
	Channel   string
	Time      time.Time
	Author    string // the webhook's own name if it gave no other; "bot"
	AvatarURL string
	Webhook   string // the webhook's id; empty for a bot
	Content   string
	Embeds    []Embed
	// Notified are the mentions that notify somebody, as they are written: those in the content
	// that allowed_mentions allows. Discord leaves out some of them, such as those in code.
	Notified []string

	users, roles map[string]string // names by id, for what they are shown as
	bot, nonce   string            // the bot's token; what its message is recognized by
}

// messageLocked makes the message of a payload that was found right.
func (s *Server) messageLocked(to target, p *payload) Message {
	s.lastID++
	m := Message{
		ID: strconv.FormatUint(s.lastID, 10), Channel: to.channel, Time: time.Now(),
		Author: to.author, Webhook: to.webhook,
		Content: strings.TrimSpace(p.Content), Embeds: slices.Clone(p.Embeds),
		users: maps.Clone(s.users), roles: maps.Clone(s.roles),
		bot: to.bot,
	}
	if p.ThreadName != "" {
		m.Channel = m.ID
		s.channels[m.Channel] = false
	}
	if to.webhook == "" {
		m.nonce = p.Nonce
	} else {
		if p.Username != nil {
			m.Author = strings.TrimSpace(*p.Username)
		}
		if p.AvatarURL != nil {
			m.AvatarURL = *p.AvatarURL
		}
	}
	allowed := p.AllowedMentions
	switch {
	case allowed != nil:
	case to.webhook != "":
		allowed = &allowedMentions{kinds: []string{kindUsers}}
	default:
		allowed = &allowedMentions{kinds: []string{kindUsers, kindRoles, kindEveryone}}
	}
	m.Notified = allowed.notified(m.Content)
	return m
}

// sentLocked returns the message that a bot has sent with the same nonce a short while ago, if it
// asks for that. Discord's documentation calls it "the past few minutes".
func (s *Server) sentLocked(to target, p *payload) (Message, bool) {
	const few = 3 * time.Minute
	if to.bot == "" || !p.EnforceNonce || p.Nonce == "" {
		return Message{}, false
	}
	for _, m := range slices.Backward(s.messages) {
		if m.bot == to.bot && m.nonce == p.Nonce && time.Since(m.Time) < few {
			return m, true
		}
	}
	return Message{}, false
}

// aMention is what may notify somebody. A role's id is in the first group, a user's in the second.
var aMention = regexp.MustCompile(`@everyone|@here|<@&([0-9]+)>|<@!?([0-9]+)>`)

// notified returns the mentions in content that are allowed.
func (a *allowedMentions) notified(content string) []string {
	var mentions []string
	for _, m := range aMention.FindAllStringSubmatch(content, -1) {
		whole, role, user := m[0], m[1], m[2]
		var allowed bool
		switch {
		case role != "":
			allowed = slices.Contains(a.kinds, kindRoles) || slices.Contains(a.Roles, role)
		case user != "":
			allowed = slices.Contains(a.kinds, kindUsers) || slices.Contains(a.Users, user)
		default:
			allowed = slices.Contains(a.kinds, kindEveryone)
		}
		if allowed && !slices.Contains(mentions, whole) {
			mentions = append(mentions, whole)
		}
	}
	return mentions
}

// object is the message as the API answers it, in the fields that a client reads.
func (m *Message) object() map[string]any {
	author := map[string]any{"id": "900000000000000000", "username": m.Author, "discriminator": "0000", "bot": true}
	embeds := make([]any, len(m.Embeds))
	for i, e := range m.Embeds {
		embeds[i] = struct {
			Type string `json:"type"`
			Embed
		}{"rich", e}
	}
	o := map[string]any{
		"id": m.ID, "type": 0, "channel_id": m.Channel, "author": author,
		"content": m.Content, "embeds": embeds, "timestamp": m.Time.UTC().Format(time.RFC3339Nano), "edited_timestamp": nil,
		"tts": false, "pinned": false, "mention_everyone": slices.Contains(m.Notified, "@everyone"),
		"mentions": []any{}, "mention_roles": []string{}, "attachments": []any{}, "flags": 0,
	}
	if m.Webhook != "" {
		author["id"] = m.Webhook
		o["webhook_id"] = m.Webhook
	}
	return o
}
