package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// remote returns the reporter that the environment asks for, or nil.
func remote(s settings) (taskmanager.Reporter, error) {
	isBot := s.token != "" || s.channel != ""
	switch {
	case isBot && s.webhook != "":
		return nil, errors.New("set DISCORD_WEBHOOK_URL, or DISCORD_BOT_TOKEN and DISCORD_CHANNEL_ID, not both")
	case isBot && (s.token == "" || s.channel == ""):
		return nil, errors.New("DISCORD_BOT_TOKEN and DISCORD_CHANNEL_ID belong together")
	case isBot:
		return bot(s.token, s.channel, nil)
	case s.webhook != "":
		w, err := discord.NewWebhook(s.webhook)
		if err != nil {
			return nil, fmt.Errorf("DISCORD_WEBHOOK_URL: %w", err)
		}
		return w, nil
	}
	return nil, nil
}

// bot returns a reporter with a session of its own. A service that is a bot uses the one it has.
func bot(token, channel string, transport http.RoundTripper) (taskmanager.Reporter, error) {
	session, err := discordgo.New("Bot " + token)
	if err != nil {
		return nil, err
	}
	session.Client.Transport = transport // nil is for the default
	r, err := discordbot.New(session, channel)
	if err != nil {
		return nil, fmt.Errorf("DISCORD_CHANNEL_ID: %w", err)
	}
	return r, nil
}

// A localDiscord is a fake Discord on loopback, with one channel whose messages are printed.
type localDiscord struct {
	fake     *discordtest.Server
	server   *http.Server
	printing context.CancelFunc
	ended    sync.WaitGroup
	served   error // how the server has ended
	printed  int   // messages
}

// startLocalDiscord starts one, and returns with it the reporter for its channel.
func startLocalDiscord(p *printer) (*localDiscord, taskmanager.Reporter, error) {
	const token, channel = "token-of-the-local-fake", "1"
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	d := &localDiscord{fake: discordtest.New()}
	d.fake.AddBot(token, channel)
	d.server = &http.Server{Handler: d.fake, ReadHeaderTimeout: 5 * time.Second}
	reporter, err := bot(token, channel, detour{listener.Addr().String()})
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.printing = cancel
	d.ended.Go(func() { d.served = d.server.Serve(listener) })
	d.ended.Go(func() { d.print(ctx, p) })
	return d, reporter, nil
}

// print prints messages as they come.
func (d *localDiscord) print(ctx context.Context, p *printer) {
	for {
		err := d.fake.Wait(ctx, d.printed+1)
		for _, m := range d.fake.Messages()[d.printed:] {
			fmt.Fprintf(p, "\n%s", m.Text())
			d.printed++
		}
		if err != nil {
			return
		}
	}
}

// stop ends it, when all messages have been printed.
func (d *localDiscord) stop() error {
	d.printing()
	err := d.server.Close()
	d.ended.Wait()
	if !errors.Is(d.served, http.ErrServerClosed) {
		err = errors.Join(err, d.served)
	}
	return err
}

// A detour sends to an address on loopback what is meant for Discord.
type detour struct{ address string }

// RoundTrip implements http.RoundTripper.
func (d detour) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", d.address
	return http.DefaultTransport.RoundTrip(r)
}
