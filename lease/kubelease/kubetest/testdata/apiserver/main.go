// Command apiserver is kube-apiserver with an etcd of its own in the same process, for tests. Package kubetest builds and starts it.
//
// It takes kube-apiserver's flags, and for etcd three environment variables: ETCD_DATA is a directory, ETCD_CLIENT and ETCD_PEER are the
// URLs to listen at. It ends when its standard input does, and so with the process that has started it.
package main

import (
	"fmt"
	"io"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if err := startEtcd(); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
	cmd := app.NewAPIServerCommand()
	cmd.SetArgs(append(os.Args[1:], "--etcd-servers="+os.Getenv("ETCD_CLIENT")))
	os.Exit(cli.Run(cmd))
}

// startEtcd starts an etcd with a single member and returns once that has elected itself.
func startEtcd() error {
	cfg := embed.NewConfig()
	cfg.Dir = os.Getenv("ETCD_DATA")
	cfg.LogLevel = "error"
	cfg.UnsafeNoFsync = true // the data need outlive this process, not the machine
	for variable, urls := range map[string][]*[]url.URL{
		"ETCD_CLIENT": {&cfg.ListenClientUrls, &cfg.AdvertiseClientUrls},
		"ETCD_PEER":   {&cfg.ListenPeerUrls, &cfg.AdvertisePeerUrls},
	} {
		u, err := url.Parse(os.Getenv(variable))
		if err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
		for _, to := range urls {
			*to = []url.URL{*u}
		}
	}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	<-etcd.Server.ReadyNotify()
	return nil
}
