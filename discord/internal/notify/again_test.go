package notify

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A channel is a Discord that knows messages by their nonce, and may lose its answers.
type channel struct {
	loses    int // so many answers from now on
	status   int // that is answered then; 0 for none
	requests int
	shown    []*Body
}

func (c *channel) send(_ context.Context, m *Message) (*Response, error) {
	b := m.Body()
	c.requests++
	known := false
	for _, other := range c.shown {
		known = known || other.Nonce == b.Nonce
	}
	if !known {
		c.shown = append(c.shown, b)
	}
	if c.loses > 0 {
		c.loses--
		if c.status != 0 {
			return &Response{Status: c.status}, nil
		}
		return nil, errors.New("reset")
	}
	return &Response{Status: 200, Body: []byte(message)}, nil
}

// titles are those of the embeds, by message.
func (c *channel) titles() (titles [][]string) {
	for _, b := range c.shown {
		var ofMessage []string
		for i := range b.Embeds {
			ofMessage = append(ofMessage, strings.TrimPrefix(b.Embeds[i].Title, "🔄 "))
		}
		titles = append(titles, ofMessage)
	}
	return titles
}

// after is a failure of a task so many seconds after noon, the latest of so many.
func after(task string, seconds, count int) taskmanager.Event {
	e := failed()
	e.Task, e.Time = task, noon.Add(time.Duration(seconds)*time.Second)
	if count > 1 {
		e.Repeats, e.Since = count-1, noon
	}
	return e
}

func events(es ...taskmanager.Event) []taskmanager.Event { return es }

// What a message whose answer was lost has told is not told again by what comes back with other events, or merged with later ones.
func TestLostAnswers(t *testing.T) {
	const a, b, c = "a failed, will restart", "b failed, will restart", "c failed, will restart"
	for _, test := range []struct {
		name         string
		first, again []taskmanager.Event
		counts       []int // of delivered events, by call
		want         [][]string
	}{
		{"as it was", events(after("a", 0, 1)), events(after("a", 0, 1)), []int{1}, [][]string{{a}}},
		{
			"with more", events(after("a", 0, 1), after("b", 0, 1)), events(after("a", 0, 1), after("b", 0, 1), after("c", 1, 1)),
			[]int{2, 1},
			[][]string{{a, b}, {c}},
		},
		{"merged", events(after("a", 0, 1)), events(after("a", 5, 4)), []int{1}, [][]string{{a}, {a + " × 3"}}},
		{"merged with one", events(after("a", 1, 2)), events(after("a", 5, 3)), []int{1}, [][]string{{a + " × 2"}, {a}}},
		{
			"one merged, one not", events(after("a", 0, 1), after("b", 0, 1)), events(after("a", 3, 3), after("b", 0, 1), after("c", 2, 1)),
			[]int{3},
			[][]string{{a, b}, {a + " × 2", c}},
		},
		{"others", events(after("a", 0, 1)), events(after("b", 0, 1)), []int{1}, [][]string{{a}, {b}}},
		{"the same task, later", events(after("a", 0, 1)), events(after("a", 9, 1)), []int{1}, [][]string{{a}, {a}}},
	} {
		for _, status := range []int{0, 502, 200} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := &channel{loses: attempts, status: status}
					n, err := New(Config{Nonce: true}, d.send)
					require.NoError(t, err)
					if status == 200 {
						d.loses = 1 // it is not tried again at once
					}
					count, err := n.ReportBatch(context.Background(), test.first)
					require.Error(t, err)
					assert.Zero(t, count)
					rest := test.again
					for _, want := range test.counts {
						count, err = n.ReportBatch(context.Background(), rest)
						require.NoError(t, err)
						require.Equal(t, want, count)
						rest = rest[count:]
					}
					assert.Empty(t, rest)
					assert.Equal(t, test.want, d.titles())
					assert.Empty(t, n.told)

					// What has happened since is new, though it looks alike.
					require.NoError(t, n.Report(context.Background(), test.again[0]))
					assert.Len(t, d.shown, len(test.want)+1)
				})
			})
		}
	}
}

// The merged rest says since when it counts.
func TestLostAnswerOfMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &channel{loses: attempts}
		n, err := New(Config{Nonce: true}, d.send)
		require.NoError(t, err)
		require.Error(t, n.Report(context.Background(), after("a", 2, 2)))
		require.NoError(t, n.Report(context.Background(), after("a", 9, 5)))
		require.Len(t, d.shown, 2)
		assert.Equal(t, "3 failures since <t:1795521602:T>, this is the latest", valueOf(d.shown[1].Embeds[0], "Merged"))
	})
}

// As long as the message that may have been taken is not delivered, nothing that it tells is told otherwise; if it is refused, it
// was not taken.
func TestLostAnswerAgain(t *testing.T) {
	events := []taskmanager.Event{after("a", 0, 1), after("b", 0, 1)}
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		for range 3 {
			s.fail = func(string) bool { return true }
			require.Error(t, report2(n, events))
			events = append(events, after("c", 1, 1))
		}
		for _, body := range s.bodies {
			assert.JSONEq(t, s.bodies[0], body)
		}
		s.fail, s.refuses = nil, `"🔄 b failed`
		require.Error(t, report2(n, events)) // "b" is refused in any form
		assert.Contains(t, s.taken[0], "🔄 a failed")
	})
}

func report2(n *Notifier, events []taskmanager.Event) error {
	_, err := n.ReportBatch(context.Background(), events)
	return err
}

// What a request was refused for was not taken, and neither was what the rate limit has kept.
func TestAnswersThatAreNotLost(t *testing.T) {
	for _, first := range []answer{
		{status: 429, body: `{"retry_after": 300}`}, {status: 307}, {status: 404, body: `{"message": "Unknown Webhook", "code": 10015}`},
	} {
		deliveries(t, []answer{first}, func(t *testing.T, n *Notifier, s *script) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.Error(t, n.Report(ctx, after("a", 0, 1)))
			time.Sleep(10 * time.Minute)
			require.NoError(t, n.Report(context.Background(), after("a", 5, 4)))
			require.Len(t, s.taken, 1)
			assert.Contains(t, s.taken[0], "× 4")
		})
	}
}

// A secret that becomes known between two attempts does not show in the next one.
func TestSecretsAreAskedForEachTime(t *testing.T) {
	var (
		secrets []string
		bodies  []string
	)
	n, err := New(Config{Secrets: func() []string { return secrets }}, func(_ context.Context, m *Message) (*Response, error) {
		for range 2 {
			body, err := json.Marshal(m.Body())
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, string(body))
			secrets = []string{"connection", "", "consumer"}
		}
		return nil, errors.New("connection refused")
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = n.Report(ctx, failed())
	require.ErrorContains(t, err, "discord: [redacted] refused")
	assert.Contains(t, bodies[0], "connection refused")
	assert.Contains(t, bodies[1], "[redacted] refused")
	assert.Contains(t, bodies[1], "🔄 [redacted] failed")
}

// Even if what stands for them takes up more room than they did, the message is not too long.
func TestShortSecretsFit(t *testing.T) {
	var secrets []string
	n, err := New(Config{Secrets: func() []string { return secrets }}, nil)
	require.NoError(t, err)
	events := make([]taskmanager.Event, 10)
	for i := range events {
		events[i] = failed()
		events[i].Err = errors.New(strings.Repeat("x", 440))
	}
	m, taken := n.pack(events)
	require.Equal(t, 10, taken)
	assert.LessOrEqual(t, m.Body().size(), maxTotal)
	secrets = []string{"x"}
	assert.LessOrEqual(t, m.Body().size(), maxTotal)
	assert.Len(t, m.Body().Embeds, 10)
}

// The user's code may panic, with a text that shows the secret.
func TestPanicWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		n, err := New(Config{Secrets: func() []string { return []string{"the-token"} }}, func(context.Context, *Message) (*Response, error) {
			calls++
			panic("cannot post to /1/the-token")
		})
		require.NoError(t, err)
		assert.EqualError(t, n.Report(context.Background(), failed()), "discord: panic: cannot post to /1/[redacted]")
		assert.Equal(t, attempts, calls)

		n, err = New(Config{}, func(context.Context, *Message) (*Response, error) { return nil, nil }) //nolint:nilnil // a mistake
		require.NoError(t, err)
		assert.EqualError(t, n.Report(context.Background(), failed()), "discord: neither a response nor an error")
	})
}
