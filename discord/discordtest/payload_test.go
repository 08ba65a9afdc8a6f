package discordtest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

type object = map[string]any

func embed(keysAndValues ...any) object {
	o := make(object)
	for i := 0; i < len(keysAndValues); i += 2 {
		o[keysAndValues[i].(string)] = keysAndValues[i+1]
	}
	return o
}

func fields(n int, name, value string) []object {
	f := make([]object, n)
	for i := range f {
		f[i] = embed("name", name, "value", value)
	}
	return f
}

// Each text at its limit is taken, and one character more is refused at that place. A character is
// a code point, whatever it takes in UTF-8 or UTF-16.
func TestTextLimits(t *testing.T) {
	for path, c := range map[string]struct {
		most int
		body func(t *testing.T, text string) string
	}{
		"content":              {2000, func(t *testing.T, s string) string { return body(t, "content", s) }},
		"embeds.0.title":       {256, func(t *testing.T, s string) string { return body(t, "embeds", []object{embed("title", s)}) }},
		"embeds.0.description": {4096, func(t *testing.T, s string) string { return body(t, "embeds", []object{embed("description", s)}) }},
		"embeds.0.fields.0.name": {256, func(t *testing.T, s string) string {
			return body(t, "embeds", []object{embed("fields", fields(1, s, "v"))})
		}},
		"embeds.0.fields.0.value": {1024, func(t *testing.T, s string) string {
			return body(t, "embeds", []object{embed("fields", fields(1, "n", s))})
		}},
		"embeds.0.footer.text": {2048, func(t *testing.T, s string) string {
			return body(t, "embeds", []object{embed("footer", object{"text": s})})
		}},
		"embeds.0.author.name": {256, func(t *testing.T, s string) string {
			return body(t, "embeds", []object{embed("author", object{"name": s})})
		}},
	} {
		t.Run(path, func(t *testing.T) {
			d := newServer()
			for _, char := range []string{"a", "é", "🛑"} {
				a := post(t, d, hookURL, c.body(t, "  "+strings.Repeat(char, c.most)+"\n"))
				assert.Equal(t, http.StatusNoContent, a.status, a.body)
			}
			a := post(t, d, hookURL, c.body(t, strings.Repeat("🛑", c.most+1)))
			assertFormError(t, a, path, "BASE_TYPE_MAX_LENGTH", fmt.Sprintf("Must be %d or fewer in length.", c.most))
			assert.Len(t, d.Messages(), 3)
		})
	}
}

// assertFormError asserts that a is a 400 with that error at that path, and none elsewhere.
func assertFormError(t *testing.T, a answer, path, code, message string) {
	t.Helper()
	assert.Equal(t, http.StatusBadRequest, a.status)
	var errs any = object{"_errors": []any{object{"code": code, "message": message}}}
	if path != "" {
		keys := strings.Split(path, ".")
		for _, key := range slices.Backward(keys) {
			errs = object{key: errs}
		}
	}
	assert.Equal(t, object{"message": "Invalid Form Body", "code": 50035.0, "errors": errs}, a.object(t))
}

func TestCountLimits(t *testing.T) {
	d := newServer()
	many := func(n int) []object {
		e := make([]object, n)
		for i := range e {
			e[i] = embed("title", "a")
		}
		return e
	}
	assert.Equal(t, 204, post(t, d, hookURL, body(t, "embeds", many(10))).status)
	assertFormError(t, post(t, d, hookURL, body(t, "embeds", many(11))), "embeds", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
	assert.Equal(t, 204, post(t, d, hookURL, body(t, "embeds", []object{embed("fields", fields(25, "n", "v"))})).status)
	assertFormError(t, post(t, d, hookURL, body(t, "embeds", []object{embed("fields", fields(26, "n", "v"))})),
		"embeds.0.fields", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
}

// 6000 characters in all embeds together: titles, descriptions, fields, footers and authors.
func TestTotalLimit(t *testing.T) {
	d := newServer()
	of := func(n int) string { return strings.Repeat("é", n) }
	embeds := []object{
		embed("title", of(100), "description", of(3000), "author", object{"name": of(100)}),
		embed("description", of(1000), "footer", object{"text": of(1000)}, "fields", fields(2, of(100), of(300))),
	}
	assert.Equal(t, 204, post(t, d, hookURL, body(t, "content", of(2000), "embeds", embeds)).status, "the content is not part of it")
	embeds[0]["title"] = of(101)
	assertFormError(t, post(t, d, hookURL, body(t, "embeds", embeds)), "embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000")
}

func TestEmpty(t *testing.T) {
	d := newServer()
	d.SetRateLimit(100, time.Hour)
	for _, b := range []string{
		`{}`, `{"content":""}`, `{"content":" \n"}`, `{"embeds":[]}`, `{"embeds":[{}]}`, `{"embeds":[{"color":1}]}`, `{"embeds":[{"title":" "}]}`,
	} {
		a := post(t, d, hookURL, b)
		assert.Equal(t, http.StatusBadRequest, a.status, b)
		assert.Equal(t, object{"message": "Cannot send an empty message", "code": 50006.0}, a.object(t), b)
	}
	assert.Equal(t, 204, post(t, d, hookURL, `{"embeds":[{},{"description":"a"}]}`).status)
}

func TestInvalidJSON(t *testing.T) {
	d := newServer()
	d.SetRateLimit(100, time.Hour)
	for _, b := range []string{``, `{`, `null`, "{\"content\":\"\xff\"}", `{"content":"a"} {}`} {
		a := post(t, d, hookURL, b)
		assert.Equal(t, http.StatusBadRequest, a.status, b)
		assert.InDelta(t, 50109, a.object(t)["code"], 0, b)
	}
	a := post(t, d, hookURL, `{"content":1}`)
	assertFormError(t, a, "content", "BASE_TYPE_INVALID", "Not a string.")

	a, err := do(t.Context(), t, d, http.MethodPost, hookURL, `{"content":"a"}`, "Content-Type", "text/plain")
	require.NoError(t, err)
	assertFormError(t, a, "", "CONTENT_TYPE_INVALID", `Expected "Content-Type" header to be one of {'application/json'}.`)
	a, err = do(t.Context(), t, d, http.MethodPost, hookURL, `{"content":"a"}`, "Content-Type", "application/json; charset=utf-8")
	require.NoError(t, err)
	assert.Equal(t, 204, a.status)
}

func TestUsername(t *testing.T) {
	d := newServer()
	d.SetRateLimit(100, time.Hour)
	for name, code := range map[string]string{
		"": "BASE_TYPE_BAD_LENGTH", "  ": "BASE_TYPE_BAD_LENGTH", strings.Repeat("é", 81): "BASE_TYPE_BAD_LENGTH",
		"My DisCord bot": "USERNAME_INVALID_CONTAINS", "xCLYDEx": "USERNAME_INVALID_CONTAINS",
		"Everyone": "USERNAME_INVALID", " here": "USERNAME_INVALID",
	} {
		a := post(t, d, hookURL, body(t, "content", "a", "username", name))
		assert.Equal(t, 400, a.status, name)
		assert.Contains(t, a.body, `"errors":{"username":{"_errors":[{"code":"`+code+`"`, name)
	}
	for _, name := range []string{strings.Repeat("é", 80), "groundsphere", "x"} {
		assert.Equal(t, 204, post(t, d, hookURL, body(t, "content", "a", "username", name)).status, name)
	}
	assert.Equal(t, 200, post(t, d, botURL, `{"content":"a","username":"clyde"}`).status, "a bot's name is not in its messages")
}

func TestFormOfFields(t *testing.T) {
	const notURL, notScheme = "Not a well formed URL.", `Scheme "javascript" must be one of ('http', 'https').`
	of := func(keysAndValues ...any) string { return body(t, "embeds", []object{embed(keysAndValues...)}) }
	for name, c := range map[string]struct{ body, path, code, message string }{
		"field name":  {of("fields", fields(1, " ", "v")), "embeds.0.fields.0.name", "BASE_TYPE_REQUIRED", "This field is required"},
		"field value": {of("fields", fields(1, "n", "")), "embeds.0.fields.0.value", "BASE_TYPE_REQUIRED", "This field is required"},
		"footer":      {of("footer", object{}), "embeds.0.footer.text", "BASE_TYPE_REQUIRED", "This field is required"},
		"author":      {of("author", object{}), "embeds.0.author.name", "BASE_TYPE_REQUIRED", "This field is required"},
		"color":       {of("title", "a", "color", -1), "embeds.0.color", "NUMBER_TYPE_MIN", "int value should be greater than or equal to 0."},
		"large color": {of("title", "a", "color", 0x1000000), "embeds.0.color", "NUMBER_TYPE_MAX", "int value should be less than or equal to 16777215."},
		"timestamp":   {of("title", "a", "timestamp", "now"), "embeds.0.timestamp", "DATE_TIME_TYPE_PARSE", "Could not parse now. Should be ISO8601."},
		"url":         {of("title", "a", "url", "javascript:alert(1)"), "embeds.0.url", "URL_TYPE_INVALID_SCHEME", notScheme},
		"author url":  {of("author", object{"name": "a", "url": "x"}), "embeds.0.author.url", "URL_TYPE_INVALID_URL", notURL},
		"avatar":      {body(t, "content", "a", "avatar_url", "https:///a"), "avatar_url", "URL_TYPE_INVALID_URL", notURL},
	} {
		t.Run(name, func(t *testing.T) {
			assertFormError(t, post(t, newServer(), hookURL, c.body), c.path, c.code, c.message)
		})
	}
	a := post(t, newServer(), hookURL, of("title", "a", "color", 0xFFFFFF, "timestamp", "2026-01-02T03:04:05.678Z", "url", "https://example.org/"))
	assert.Equal(t, 204, a.status, a.body)
}

func TestSeveralErrors(t *testing.T) {
	a := post(t, newServer(), hookURL, body(t, "username", "clyde discord", "embeds", []object{embed("title", "a"), embed("color", -1)}))
	errs := a.object(t)["errors"].(object)
	assert.Len(t, errs["username"].(object)["_errors"], 2)
	assert.Contains(t, errs["embeds"].(object)["1"], "color")
}

func TestAllowedMentions(t *testing.T) {
	hundredAndOne := make([]string, 101)
	for i := range hundredAndOne {
		hundredAndOne[i] = fmt.Sprint(i + 1)
	}
	for name, c := range map[string]struct {
		allowed             any
		path, code, message string
	}{
		"null":         {object{"parse": nil}, "parse", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType"},
		"no list":      {object{"parse": "users"}, "parse", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType"},
		"unknown kind": {object{"parse": []string{"users", "all"}}, "parse.1", "BASE_TYPE_CHOICES", "Value must be one of ('users', 'roles', 'everyone')."},
		"users twice": {
			object{"parse": []string{"users"}, "users": []string{"1"}},
			"", "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", `parse:["users"] and users: [ids...] are mutually exclusive.`,
		},
		"roles twice": {
			object{"parse": []string{"roles"}, "roles": []string{"1"}},
			"", "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", `parse:["roles"] and roles: [ids...] are mutually exclusive.`,
		},
		"no id":    {object{"roles": []string{"1", "ops"}}, "roles.1", "NUMBER_TYPE_COERCE", `Value "ops" is not snowflake.`},
		"same id":  {object{"roles": []string{"1", "1"}}, "roles.1", "SET_TYPE_ALREADY_CONTAINS_VALUE", "The set already contains this value"},
		"too many": {object{"users": hundredAndOne}, "users", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer in length."},
	} {
		t.Run(name, func(t *testing.T) {
			path := strings.TrimSuffix("allowed_mentions."+c.path, ".")
			assertFormError(t, post(t, newServer(), hookURL, body(t, "content", "a", "allowed_mentions", c.allowed)), path, c.code, c.message)
		})
	}
}

// Whom the same content notifies depends on allowed_mentions, and without it on who sends it.
func TestNotified(t *testing.T) {
	const content = "@everyone @here <@1> <@!2> <@&3> <@&4> <@1>"
	for name, c := range map[string]struct {
		allowed  any
		notified []string
	}{
		"nobody":         {object{"parse": []string{}}, nil},
		"empty":          {object{}, nil},
		"one role":       {object{"parse": []string{}, "roles": []string{"4", "5"}}, []string{"<@&4>"}},
		"one user":       {object{"users": []string{"2"}, "roles": []string{}}, []string{"<@!2>"}},
		"all users":      {object{"parse": []string{"users"}, "users": []string{}}, []string{"<@1>", "<@!2>"}},
		"everyone":       {object{"parse": []string{"everyone"}}, []string{"@everyone", "@here"}},
		"everyone and 1": {object{"parse": []string{"everyone"}, "users": []string{"1"}}, []string{"@everyone", "@here", "<@1>"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, url := range []string{hookURL, botURL} {
				d := newServer()
				post(t, d, url, body(t, "content", content, "allowed_mentions", c.allowed, "embeds", []object{embed("description", content)}))
				require.Len(t, d.Messages(), 1)
				assert.Equal(t, c.notified, d.Messages()[0].Notified)
			}
		})
	}
	d := newServer()
	post(t, d, hookURL, body(t, "content", content))
	post(t, d, botURL, body(t, "content", content))
	messages := d.Messages()
	require.Len(t, messages, 2)
	assert.Equal(t, []string{"<@1>", "<@!2>"}, messages[0].Notified, "a webhook")
	assert.Equal(t, []string{"@everyone", "@here", "<@1>", "<@!2>", "<@&3>", "<@&4>"}, messages[1].Notified, "a bot")
}

// An embed never notifies anybody.
func TestEmbedsNotifyNobody(t *testing.T) {
	d := newServer()
	post(t, d, botURL, body(t, "embeds", []object{embed("title", "@everyone", "description", "<@1>")}))
	require.Len(t, d.Messages(), 1)
	assert.Empty(t, d.Messages()[0].Notified)
	assert.Equal(t, []discordtest.Span{{Text: "<@1>"}}, spans(d, d.Messages()[0].Embeds[0].Description))
}

func spans(d *discordtest.Server, text string) []discordtest.Span {
	m := d.Messages()[0]
	return m.Spans(text)
}
