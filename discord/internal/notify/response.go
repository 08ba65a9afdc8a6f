package notify

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A Response is what Discord has answered, or something on the way to it.
type Response struct {
	Status int
	Header http.Header // may be nil
	Body   []byte      // of a longer one, the first MaxBody bytes are enough
}

// MaxBody is how much of a response's body is looked at.
const MaxBody = 64 << 10

const (
	// unstatedWait is for a 429 that doesn't say how long to wait.
	unstatedWait = 5 * time.Second
	// mostStated bounds what a response may make us wait.
	mostStated = 24 * time.Hour
)

// exhausted returns how long no request is allowed, if r says so: that it was the last one that the
// rate limit had left.
func (r *Response) exhausted() (time.Duration, bool) {
	if r.Header.Get("X-RateLimit-Remaining") != "0" {
		return 0, false
	}
	return seconds(r.Header.Get("X-RateLimit-Reset-After"))
}

// retryAfter returns how long to wait after a 429. The body of Discord's own says it most exactly;
// one from a server before it, which is HTML, may have the header.
func (r *Response) retryAfter() time.Duration {
	var body struct {
		RetryAfter json.Number `json:"retry_after"`
	}
	if json.Unmarshal(r.Body, &body) == nil {
		if d, ok := seconds(body.RetryAfter.String()); ok {
			return d
		}
	}
	header := r.Header.Get("Retry-After")
	if d, ok := seconds(header); ok {
		return d
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(time.Until(at), 0), mostStated)
	}
	if d, ok := seconds(r.Header.Get("X-RateLimit-Reset-After")); ok {
		return d
	}
	return unstatedWait
}

// seconds reads a number of seconds, which may have a fraction.
func seconds(s string) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) {
		return 0, false
	}
	// Upwards: to come a nanosecond early is to come in vain.
	return time.Duration(math.Ceil(min(f, mostStated.Seconds()) * float64(time.Second))), true
}

// A statusError is a response that refuses the message.
type statusError struct {
	status int
	text   string // what Discord says, or ""
}

func newStatusError(r *Response) *statusError {
	return &statusError{r.Status, explanation(r.Body)}
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("discord: %d %s", e.status, http.StatusText(e.status))
	s = strings.TrimSpace(s)
	if e.text != "" {
		s += ": " + e.text
	}
	return s
}

// Is makes those statuses final that say that no later request will be taken either. Discord bars
// an address that goes on all the same.
func (e *statusError) Is(target error) bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return target == taskmanager.ErrReporterClosed
	}
	return false
}

// explanation returns what the body of an error response says, in one line fit for a log; "" if it
// isn't one of Discord's.
func explanation(body []byte) string {
	const most = 300
	var e struct {
		Message string          `json:"message"`
		Code    json.Number     `json:"code"`
		Errors  json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &e) != nil || e.Message == "" {
		return ""
	}
	text := e.Message
	if code := e.Code.String(); code != "" && code != "0" {
		text += " (code " + code + ")"
	}
	if len(e.Errors) > 0 {
		var tree any
		if json.Unmarshal(e.Errors, &tree) == nil {
			if details := flatten(nil, tree); len(details) > 0 {
				text += ": " + strings.Join(details, "; ")
			}
		}
	}
	return cut(clean(text, false), most)
}

// flatten returns "embeds.0.title: Must be 256 or fewer in length." for each error in the tree that
// Discord answers with: objects whose keys are the names and indices of what was refused, down to a
// list under the key "_errors".
func flatten(path []string, tree any) (details []string) {
	node, _ := tree.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(node)) {
		list, ok := node[key].([]any)
		if key != "_errors" || !ok {
			details = append(details, flatten(append(path, key), node[key])...)
			continue
		}
		for _, item := range list {
			object, _ := item.(map[string]any)
			message, _ := object["message"].(string)
			if len(path) > 0 {
				message = strings.Join(path, ".") + ": " + message
			}
			details = append(details, message)
		}
	}
	return details
}
