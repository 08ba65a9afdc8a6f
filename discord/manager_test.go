package discord_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

const (
	restarting = "🔄 consumer failed, will restart"
	givenUp    = "🛑 consumer failed for good, gave up"
)

// giveUp starts a task whose first failure is its last, and waits for that.
func giveUp(t *testing.T, m *taskmanager.Manager, name string, body taskmanager.TaskFunc) {
	t.Helper()
	task := start(t, m, name, body, taskmanager.WithRestart(taskmanager.RestartNever))
	require.Error(t, task.Wait(context.Background()))
}

// TestCrashLoopIsToldInFewMessages lets a task fail a thousand times within 100 seconds.
func TestCrashLoopIsToldInFewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		m := newManager(t, newWebhook(t, client, discord.WithMentionRole(roleID)), &logBook{})
		task := start(t, m, "consumer", fail, taskmanager.WithBackoff(100*time.Millisecond, 100*time.Millisecond),
			taskmanager.WithMaxRestarts(999), taskmanager.WithRestartWindow(time.Hour))
		require.Error(t, task.Wait(context.Background()))
		assert.Equal(t, uint64(1000), task.Stats().Failures)
		require.NoError(t, m.Shutdown(context.Background()))

		assert.Equal(t, map[string]int{restarting: 999, givenUp: 1}, reported(t, d.Messages()))
		// By default a Manager makes 10 reports at once and then one in a second.
		assert.Less(t, len(d.Messages()), 120)
		for _, r := range d.Requests() {
			assert.Equal(t, http.StatusOK, r.Status, "no request that the rate limit forbids")
		}
		s := m.Stats()
		assert.Equal(t, uint64(1000), s.ReportsDelivered)
		assert.Zero(t, s.ReportsLost)
		// Nobody is called before the end.
		for i, message := range d.Messages() {
			if i == len(d.Messages())-1 {
				assert.Equal(t, []string{"<@&" + roleID + ">"}, message.Notified)
			} else {
				assert.Empty(t, message.Notified)
			}
		}
	})
}

// Tasks that fail together are told of together: in one message, and if there are many with the same error, in one embed.
func TestTasksThatFailTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		m := newManager(t, newWebhook(t, client), &logBook{}, taskmanager.WithReportLimit(1, 1))
		for i := range 25 {
			giveUp(t, m, fmt.Sprintf("task-%d", i), fail)
		}
		require.NoError(t, m.Shutdown(context.Background()))
		assert.Equal(t, 25, countReported(t, d.Messages()))
		assert.LessOrEqual(t, len(d.Messages()), 4)
		assert.Regexp(t, "🛑 [0-9]+ tasks failed for good, gave up\n", d.Text(channelID))
		assert.Regexp(t, "Tasks: task-[0-9]+, task-[0-9]+, .* and [0-9]+ more\n", d.Text(channelID))
	})
}

// Whom a failure holds up is part of it.
func TestDependentsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		m := newManager(t, newWebhook(t, client), &logBook{}, taskmanager.WithReportLimit(1, 1))
		start(t, m, "http", fail, taskmanager.WithDependsOn("db"))
		start(t, m, "consumer", fail, taskmanager.WithDependsOn("db"))
		giveUp(t, m, "db", fail)
		require.NoError(t, m.Shutdown(context.Background()))
		assert.Contains(t, d.Text(channelID), "Waiting for it: consumer, http\n")
	})
}

// TestHangingDiscordDelaysNothing compares with what the options say: the third run begins 3 s after
// the first, and Shutdown returns at its deadline.
func TestHangingDiscordDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.Fail(1000, discordtest.Hang())
		book := &logBook{}
		m := newManager(t, newWebhook(t, client), book)
		began := time.Now()
		var runs []time.Duration
		start(t, m, "consumer", func(ctx context.Context) error {
			runs = append(runs, time.Since(began))
			if len(runs) < 4 {
				return errRefused
			}
			<-ctx.Done()
			return nil
		}, taskmanager.WithBackoff(time.Second, time.Minute), taskmanager.WithBackoffFactor(2))
		time.Sleep(20 * time.Second)

		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		asked := time.Now()
		require.NoError(t, m.Shutdown(ctx))
		assert.Equal(t, 3*time.Second, time.Since(asked))
		assert.Equal(t, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, runs)
		assert.Empty(t, d.Messages())
		assert.Equal(t, 1, book.count("no time left to report events"))
		s := m.Stats()
		assert.Equal(t, uint64(3), s.ReportsLost)
		synctest.Wait() // the request that hung has been canceled: the bubble ends without it
	})
}

// TestFaultsOfDiscord lets each fault happen to the first request, and expects the report
// nevertheless, at that time.
func TestFaultsOfDiscord(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault discordtest.Fault
		after time.Duration
	}{
		{"429 with a fraction", discordtest.RateLimited(1337*time.Millisecond, false), 1337 * time.Millisecond},
		{"429 of the global limit", discordtest.RateLimited(2500*time.Millisecond, true), 2500 * time.Millisecond},
		{"429 in HTML", discordtest.HTML429(3 * time.Second), 3 * time.Second},
		{"429 in HTML without a time", discordtest.HTML429(0), 5 * time.Second},
		{"500", discordtest.Status(500), 500 * time.Millisecond},
		{"502", discordtest.Status(502), 500 * time.Millisecond},
		{"reset", discordtest.Reset(), 500 * time.Millisecond},
		{"hang", discordtest.Hang(), 5500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newFake()
				d.Fail(1, c.fault)
				book := &logBook{}
				m := newManager(t, newWebhook(t, client), book)
				began := time.Now()
				giveUp(t, m, "consumer", fail)
				require.NoError(t, d.Wait(context.Background(), 1))
				assert.Equal(t, c.after, time.Since(began))
				require.NoError(t, m.Shutdown(context.Background()))
				assert.Equal(t, map[string]int{givenUp: 1}, reported(t, d.Messages()))
				assert.Len(t, d.Requests(), 2)
				assert.Zero(t, book.count("reporter failed"))
			})
		})
	}
}

// A status of success counts, also if its body never ends.
func TestStalledAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.Fail(1, discordtest.Stall())
		assert.NoError(t, newWebhook(t, client).Report(context.Background(), failed()))
		assert.Len(t, d.Requests(), 1)
	})
}

// A fault that lasts delays a report, and costs no more than some requests a minute.
func TestLastingFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.Fail(40, discordtest.Status(500))
		book := &logBook{}
		m := newManager(t, newWebhook(t, client), book)
		giveUp(t, m, "consumer", fail)
		time.Sleep(time.Hour)
		require.Equal(t, 41, len(d.Requests())) //nolint:testifylint // Len would print them
		assert.Equal(t, 10, book.count("reporter failed, will retry"), "four requests each")
		assert.Equal(t, 3*time.Minute+36*time.Second, d.Requests()[40].Time.Sub(d.Requests()[0].Time))
		assert.Equal(t, uint64(1), m.Stats().ReportsDelivered)
		require.NoError(t, m.Shutdown(context.Background()))
	})
}

// A rate limit that lasts long loses nothing.
func TestLongRateLimitLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, client := newFake()
		fake.Fail(3, discordtest.RateLimited(5*time.Minute, false))
		book := &logBook{}
		m := newManager(t, newWebhook(t, client), book)
		began := time.Now()
		giveUp(t, m, "a", fail)
		time.Sleep(time.Minute)
		giveUp(t, m, "b", fail)
		time.Sleep(time.Hour)
		messages := fake.Messages()
		require.Len(t, messages, 1)
		assert.Equal(t, 15*time.Minute, messages[0].Time.Sub(began))
		assert.Len(t, messages[0].Embeds, 2)
		s := m.Stats()
		assert.EqualValues(t, 2, s.ReportsDelivered)
		assert.Zero(t, s.ReportsLost)
		assert.Len(t, fake.Requests(), 4, "none came earlier than allowed")
	})
}

// A webhook that is gone, or that Discord says is gone, costs few requests and no report.
func TestAbsentWebhook(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		code   int
		text   string
	}{
		{"unknown webhook", 404, 10015, "Unknown Webhook"},
		{"invalid webhook token", 401, 50027, "Invalid Webhook Token"},
		{"missing access", 403, 50001, "Missing Access"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newFake()
				d.Fail(1000, discordtest.APIError(c.status, c.code, c.text))
				book := &logBook{}
				m := newManager(t, newWebhook(t, client), book)
				began := time.Now()
				for i := range 5 {
					giveUp(t, m, fmt.Sprintf("task-%d", i), fail)
					time.Sleep(time.Minute)
				}
				time.Sleep(24*time.Hour - time.Since(began))
				assert.Len(t, d.Requests(), 1+6+22, "after 1, 2, 4, 8, 16 and 32 minutes, and then every hour")
				assert.Equal(t, 29, book.count(fmt.Sprintf("(code %d)", c.code)))
				d.Recover()
				time.Sleep(time.Hour)
				assert.Equal(t, 5, countReported(t, d.Messages()))
				assert.Zero(t, m.Stats().ReportsLost)
				assert.NotContains(t, book.String(), hookToken)
				require.NoError(t, m.Shutdown(context.Background()))
			})
		})
	}
}

// A wrong answer in an incident of ten minutes, a firewall's page, or a captive portal: nothing is lost.
func TestWrongAnswersLoseNothing(t *testing.T) {
	for name, fault := range map[string]discordtest.Fault{
		"wrong token":       discordtest.APIError(401, 50027, "Invalid Webhook Token"),
		"Cloudflare's page": discordtest.CloudflareBlock(false),
		"Cloudflare's code": discordtest.CloudflareBlock(true),
		"captive portal":    discordtest.CaptivePortal(),
		"101":               discordtest.SwitchingProtocols(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newFake()
				d.Fail(2, fault)
				m := newManager(t, newWebhook(t, client), &logBook{})
				giveUp(t, m, "consumer", fail)
				time.Sleep(10 * time.Minute)
				assert.Equal(t, map[string]int{givenUp: 1}, reported(t, d.Messages()))
				assert.Len(t, d.Requests(), 3)
				require.NoError(t, m.Shutdown(context.Background()))
			})
		})
	}
}

// One task whose error has a link that Discord dislikes, among others: all are heard of.
func TestAttackedTaskSilencesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.Refuse("free-nitro.example")
		m := newManager(t, newWebhook(t, client), &logBook{}, taskmanager.WithReportLimit(2, 1))
		giveUp(t, m, "first", fail) // uses up the limit: the others wait
		giveUp(t, m, "attacked", func(context.Context) error { return errors.New("cannot parse https://free-nitro.example/x") })
		for i := range 40 {
			giveUp(t, m, fmt.Sprintf("innocent-%02d", i), fail)
		}
		time.Sleep(time.Minute)
		assert.Equal(t, 42, countReported(t, d.Messages()))
		text := d.Text(channelID)
		assert.Contains(t, text, "attacked failed for good")
		assert.Contains(t, text, "The error is not shown: its text was refused.")
		assert.Zero(t, m.Stats().ReportsLost)
		require.NoError(t, m.Shutdown(context.Background()))
	})
}

// A crash loop whose messages' answers get lost now and then: a webhook's message shows twice then, but no other counts what it has told.
func TestLostAnswersCountNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		d.Fail(1, discordtest.Lose())
		m := newManager(t, newWebhook(t, client), &logBook{})
		task := start(t, m, "consumer", fail, taskmanager.WithBackoff(100*time.Millisecond, 100*time.Millisecond),
			taskmanager.WithMaxRestarts(99), taskmanager.WithRestartWindow(time.Hour))
		require.Error(t, task.Wait(context.Background()))
		require.NoError(t, m.Shutdown(context.Background()))
		assert.Equal(t, 101, countReported(t, d.Messages()), "the first one twice")
	})
}

// While Shutdown flushes, a server that always says that the time has come is not asked on and on, nor is one that refuses.
func TestNoStormOfRequests(t *testing.T) {
	for name, c := range map[string]struct {
		fault discordtest.Fault
		most  int
	}{
		"429 without time": {discordtest.RateLimited(0, false), 12},
		"403":              {discordtest.CloudflareBlock(false), 50},
		"gone":             {discordtest.APIError(404, 10015, "Unknown Webhook"), 2},
		"500":              {discordtest.Status(500), 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newFake()
				d.Fail(10_000, c.fault)
				m := newManager(t, newWebhook(t, client), &logBook{})
				giveUp(t, m, "consumer", fail)
				time.Sleep(10 * time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				_ = m.Shutdown(ctx)
				assert.LessOrEqual(t, len(d.Requests()), c.most)
			})
		})
	}
}

// Whatever an attacker has sent to the service, and the service puts in an error, a panic or the
// name of a task: the channel shows it, and it does nothing there.
func TestHostileTextIsInert(t *testing.T) {
	texts := []string{
		"@everyone @here", "<@" + userID + "> <@!" + userID + "> <@&" + roleID + "> <#" + channelID + ">",
		"[click](https://evil.test/)", "[`click`](<https://evil.test/>)", "https://evil.test/",
		"```\n@everyone\n```", "``````@everyone", "`@everyone`", "\\`\\`\\`@everyone", "a`", "```",
		"**bold** __line__ ~~strike~~ ||spoiler||", "# heading", "> quote", ">>> quote", "- item", "-# small",
		"\x1b[31mred", "abc\u202Etxt.exe", "a\u0000b", "\xff\xfe", "@\u200Beveryone", "</airhorn:816437322781949972>", "<t:1:R>", "<id:home>",
	}
	for _, text := range texts {
		synctest.Test(t, func(t *testing.T) {
			d, client := newFake()
			name := strings.ToValidUTF8(strings.Map(func(r rune) rune {
				if r < ' ' {
					return -1
				}
				return r
			}, text), "")
			if name == "" {
				name = "nothing left"
			}
			m := newManager(t, newWebhook(t, client, discord.WithHost(name)), &logBook{}, taskmanager.WithName(name))
			giveUp(t, m, name, func(context.Context) error { return errors.New(text) })
			giveUp(t, m, name+"2", func(context.Context) error { panic(text) })
			require.NoError(t, m.Shutdown(context.Background()))

			var embeds int
			for _, message := range d.Messages() {
				assert.Empty(t, message.Notified)
				assert.Empty(t, message.Content)
				for _, e := range message.Embeds {
					embeds++
					checkInert(t, &message, e.Title, discordtest.Plain)
					checkInert(t, &message, e.Description, discordtest.Block)
					for _, f := range e.Fields {
						checkInert(t, &message, f.Value, discordtest.Plain, discordtest.Code)
					}
				}
			}
			assert.Equal(t, 2, embeds, text)
		})
	}
}

// checkInert asserts that a client shows text as spans of these kinds and without style.
func checkInert(t *testing.T, m *discordtest.Message, text string, kinds ...discordtest.SpanKind) {
	t.Helper()
	for _, span := range m.Spans(text) {
		assert.Contains(t, kinds, span.Kind, text)
		assert.Zero(t, span.Style, text)
		assert.Empty(t, span.URL, text)
	}
}

// A 10 KiB error, of characters that need two units each, is cut between two of them, in its middle: its cause is at its end.
func TestLongTextIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		name := strings.Repeat("🧨", 63) // 252 bytes
		m := newManager(t, newWebhook(t, client), &logBook{})
		giveUp(t, m, name, func(context.Context) error { return errors.New("parse " + strings.Repeat("🧨", 2560) + ": refused") })
		require.NoError(t, m.Shutdown(context.Background()))
		require.Len(t, d.Messages(), 1)
		e := d.Messages()[0].Embeds[0]
		assert.Equal(t, "🛑 "+name+" failed for good, gave up", e.Title)
		assert.Regexp(t, "^```\nparse (🧨)+ … (🧨)+: refused\n```$", e.Description)
	})
}
