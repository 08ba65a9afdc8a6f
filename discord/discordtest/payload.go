package discordtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An Embed is one of the boxes below a message's content.
type Embed struct {
	Title       string  `json:"title,omitempty"`
	URL         string  `json:"url,omitempty"`
	Description string  `json:"description,omitempty"`
	Color       int     `json:"color,omitempty"`
	Timestamp   string  `json:"timestamp,omitempty"` // RFC 3339
	Author      *Author `json:"author,omitempty"`
	Fields      []Field `json:"fields,omitempty"`
	Footer      *Footer `json:"footer,omitempty"`
}

// An Author is the line above an embed's title.
type Author struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"`
}

// A Field is a name and a value in an embed. Inline ones stand side by side.
type Field struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Inline bool   `json:"inline,omitempty"`
}

// A Footer is the line below an embed.
type Footer struct {
	Text string `json:"text"`
}

// A payload is the body of a request that sends a message.
type payload struct {
	Content         string           `json:"content"`
	Username        *string          `json:"username"`
	AvatarURL       *string          `json:"avatar_url"`
	ThreadName      string           `json:"thread_name"`
	Embeds          []Embed          `json:"embeds"`
	AllowedMentions *allowedMentions `json:"allowed_mentions"`
	Nonce           string           `json:"nonce"` // Discord takes a number as well
	EnforceNonce    bool             `json:"enforce_nonce"`
}

// allowedMentions say whom a message may notify.
type allowedMentions struct {
	Parse json.RawMessage `json:"parse"`
	Roles []string        `json:"roles"`
	Users []string        `json:"users"`

	kinds []string // those of Parse
}

// The kinds of mentions, as allowed_mentions.parse has them.
const (
	kindUsers    = "users"
	kindRoles    = "roles"
	kindEveryone = "everyone"
)

// parse reads the body of a request. Keys that it doesn't know are ignored, as Discord does.
func parse(body []byte) (*payload, *answer) {
	invalid := refuse(http.StatusBadRequest, 50109, "The request body contains invalid JSON.")
	if !utf8.Valid(body) {
		return nil, invalid // encoding/json would mend it
	}
	var (
		p         payload
		wrongType *json.UnmarshalTypeError
	)
	switch err := json.Unmarshal(body, &p); {
	case errors.As(err, &wrongType):
		// Discord's codes depend on the type, and its paths have the index within a list.
		f := newForm()
		f.add("BASE_TYPE_INVALID", "Not a "+wrongType.Type.String()+".", strings.Split(wrongType.Field, ".")...)
		return nil, f.answer()
	case err != nil || bytes.Equal(bytes.TrimSpace(body), []byte("null")):
		return nil, invalid
	}
	return &p, nil
}

// check returns the answer with all that is wrong with the message, or nil.
func (p *payload) check(webhook bool) *answer {
	f := newForm()
	f.atMost(p.Content, 2000, "content")
	if webhook {
		p.checkAuthor(f)
		f.atMost(p.ThreadName, 100, "thread_name")
	} else {
		f.atMost(p.Nonce, 25, "nonce")
	}
	if len(p.Embeds) > 10 {
		f.tooMany(10, "embeds")
	}
	total := 0
	for i := range p.Embeds {
		total += p.Embeds[i].check(f, i)
	}
	if total > 6000 {
		f.add("MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000", "embeds")
	}
	p.AllowedMentions.check(f)
	switch {
	case f.failed():
		return f.answer()
	case length(p.Content) == 0 && !slices.ContainsFunc(p.Embeds, Embed.shown):
		return refuse(http.StatusBadRequest, 50006, "Cannot send an empty message")
	}
	return nil
}

// contains reports whether some text that the message shows has text in it.
func (p *payload) contains(text string) bool {
	texts := []string{p.Content}
	for _, e := range p.Embeds {
		texts = append(texts, e.Title, e.Description)
		for _, f := range e.Fields {
			texts = append(texts, f.Name, f.Value)
		}
	}
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, text) })
}

// checkAuthor checks the name and the picture under which a webhook writes. The rules for a name
// are partly documented: names that others have tried are refused for these reasons.
func (p *payload) checkAuthor(f *form) {
	if p.Username != nil {
		name := strings.ToLower(strings.TrimSpace(*p.Username))
		if n := length(name); n < 1 || n > 80 {
			f.add("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 80 in length.", "username")
		}
		for _, part := range []string{"discord", "clyde"} {
			if strings.Contains(name, part) {
				f.add("USERNAME_INVALID_CONTAINS", "Username cannot contain "+strconv.Quote(part), "username")
			}
		}
		if name == "everyone" || name == "here" {
			f.add("USERNAME_INVALID", "Username cannot be "+strconv.Quote(name), "username")
		}
	}
	if p.AvatarURL != nil {
		f.isURL(*p.AvatarURL, "avatar_url")
	}
}

// check notes what is wrong with the embed and returns how many characters it has.
func (e *Embed) check(f *form, index int) (total int) {
	at := func(path ...string) []string { return append([]string{"embeds", strconv.Itoa(index)}, path...) }
	text := func(s string, most int, required bool, path ...string) {
		total += length(s)
		f.atMost(s, most, at(path...)...)
		if required && length(s) == 0 {
			f.required(at(path...)...)
		}
	}
	text(e.Title, 256, false, "title")
	text(e.Description, 4096, false, "description")
	if e.Author != nil {
		text(e.Author.Name, 256, true, "author", "name")
		f.isURL(e.Author.URL, at("author", "url")...)
	}
	if e.Footer != nil {
		text(e.Footer.Text, 2048, true, "footer", "text")
	}
	if len(e.Fields) > 25 {
		f.tooMany(25, at("fields")...)
	}
	for i, field := range e.Fields {
		text(field.Name, 256, true, "fields", strconv.Itoa(i), "name")
		text(field.Value, 1024, true, "fields", strconv.Itoa(i), "value")
	}
	f.isURL(e.URL, at("url")...)
	const white = 0xFFFFFF
	switch {
	case e.Color < 0:
		f.add("NUMBER_TYPE_MIN", "int value should be greater than or equal to 0.", at("color")...)
	case e.Color > white:
		f.add("NUMBER_TYPE_MAX", "int value should be less than or equal to 16777215.", at("color")...)
	}
	if _, err := time.Parse(time.RFC3339, e.Timestamp); e.Timestamp != "" && err != nil {
		f.add("DATE_TIME_TYPE_PARSE", "Could not parse "+e.Timestamp+". Should be ISO8601.", at("timestamp")...)
	}
	return total
}

// shown reports whether there is anything to see of the embed. Which of its parts suffice alone is
// not checked.
func (e Embed) shown() bool {
	return length(e.Title)+length(e.Description) > 0 || e.Author != nil || e.Footer != nil || len(e.Fields) > 0
}

// check notes what is wrong with the object, and reads Parse. That Discord refuses a null there is
// not checked; it is refused because what it would mean is not documented.
func (a *allowedMentions) check(f *form) {
	if a == nil {
		return
	}
	if a.Parse != nil {
		if err := json.Unmarshal(a.Parse, &a.kinds); err != nil || a.kinds == nil {
			f.add("LIST_TYPE_CONVERT", "Only iterables may be used in a ListType", "allowed_mentions", "parse")
		}
	}
	for i, kind := range a.kinds {
		if kind != kindUsers && kind != kindRoles && kind != kindEveryone {
			f.add("BASE_TYPE_CHOICES", "Value must be one of ('users', 'roles', 'everyone').", "allowed_mentions", "parse", strconv.Itoa(i))
		}
	}
	for kind, ids := range map[string][]string{kindUsers: a.Users, kindRoles: a.Roles} {
		if len(ids) > 0 && slices.Contains(a.kinds, kind) {
			f.add("MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
				`parse:["`+kind+`"] and `+kind+`: [ids...] are mutually exclusive.`, "allowed_mentions")
		}
		if len(ids) > 100 {
			f.tooMany(100, "allowed_mentions", kind)
		}
		for i, id := range ids {
			switch {
			case !isID(id):
				f.notSnowflake(id, "allowed_mentions", kind, strconv.Itoa(i))
			case slices.Contains(ids[:i], id):
				f.add("SET_TYPE_ALREADY_CONTAINS_VALUE", "The set already contains this value", "allowed_mentions", kind, strconv.Itoa(i))
			}
		}
	}
}

// A form collects what is wrong with a request, by the path of the field.
type form struct{ root map[string]any }

func newForm() *form { return &form{make(map[string]any)} }

func (f *form) failed() bool { return len(f.root) > 0 }

// add notes an error of the field at path; without a path, of the whole.
func (f *form) add(code, message string, path ...string) {
	node := f.root
	for _, key := range path {
		child, ok := node[key].(map[string]any)
		if !ok {
			child = make(map[string]any)
			node[key] = child
		}
		node = child
	}
	errs, _ := node["_errors"].([]any)
	node["_errors"] = append(errs, map[string]string{"code": code, "message": message})
}

func (f *form) atMost(s string, most int, path ...string) {
	if length(s) > most {
		f.tooMany(most, path...)
	}
}

func (f *form) tooMany(most int, path ...string) {
	f.add("BASE_TYPE_MAX_LENGTH", "Must be "+strconv.Itoa(most)+" or fewer in length.", path...)
}

func (f *form) required(path ...string) {
	f.add("BASE_TYPE_REQUIRED", "This field is required", path...)
}

func (f *form) notSnowflake(value string, path ...string) {
	f.add("NUMBER_TYPE_COERCE", "Value "+strconv.Quote(value)+" is not snowflake.", path...)
}

// isURL notes an error unless s is empty or a URL for the web.
func (f *form) isURL(s string, path ...string) {
	if s == "" {
		return
	}
	switch u, err := url.Parse(s); {
	case err != nil || u.Host == "" && u.Scheme == "":
		f.add("URL_TYPE_INVALID_URL", "Not a well formed URL.", path...)
	case u.Scheme != "http" && u.Scheme != "https":
		f.add("URL_TYPE_INVALID_SCHEME", "Scheme "+strconv.Quote(u.Scheme)+" must be one of ('http', 'https').", path...)
	case u.Host == "":
		f.add("URL_TYPE_INVALID_URL", "Not a well formed URL.", path...)
	}
}

// answer is what Discord answers to a form with errors.
func (f *form) answer() *answer {
	return jsonAnswer(http.StatusBadRequest, map[string]any{
		"message": "Invalid Form Body", "code": 50035, "errors": f.root,
	})
}
