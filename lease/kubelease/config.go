package kubelease

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Config says how to reach the API server. [InCluster] makes one in a pod.
type Config struct {
	// Host is the URL of the API server, such as https://10.0.0.1:443. It must have no user and no password.
	Host string

	// Namespace is where the objects are. It must exist.
	Namespace string

	// TLS has the certificate authority of the API server, in RootCAs, and perhaps a certificate of the client. Nil is for the
	// authorities of the system. It must not be changed any more.
	TLS *tls.Config

	// Token is sent with each request. It needs a Host that begins with https. Empty, with no TokenFile: no token is sent.
	Token string

	// TokenFile names a file with the token, as an alternative to Token. It is read again a minute after it was read, and when the
	// API server refuses the token, since Kubernetes renews tokens.
	TokenFile string
}

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster returns the Config for a pod: the API server of its cluster, its namespace, and the token of its service account. It returns
// an error outside of a pod, and in a pod that has no token mounted.
func InCluster() (Config, error) { return inCluster(serviceAccount) }

// inCluster is InCluster for a service account that is mounted at dir.
func inCluster(dir string) (Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Config{}, errors.New("kubelease: not in a pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set")
	}
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return Config{}, fmt.Errorf("kubelease: namespace of the pod: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return Config{}, fmt.Errorf("kubelease: certificate authority of the cluster: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return Config{}, fmt.Errorf("kubelease: %s has no certificate", filepath.Join(dir, "ca.crt"))
	}
	cfg := Config{
		Host:      "https://" + net.JoinHostPort(host, port),
		Namespace: strings.TrimSpace(string(namespace)),
		TLS:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TokenFile: filepath.Join(dir, "token"),
	}
	// A pod without a token is a mistake in its manifest, which should be seen at the start.
	_, err = (&tokens{file: cfg.TokenFile}).get(false)
	return cfg, err
}

// check returns the URL of Host, or why the Config can't be used. It shows no part of Host before it knows that there is no password in it.
func (c Config) check() (*url.URL, error) {
	host, err := url.Parse(c.Host)
	switch {
	case err != nil || host.Host == "" || (host.Scheme != "https" && host.Scheme != "http"):
		return nil, errors.New("kubelease: Config.Host must be a URL such as https://10.0.0.1:443")
	case host.User != nil:
		return nil, errors.New("kubelease: Config.Host must have no user and no password")
	case host.RawQuery != "" || host.Fragment != "":
		return nil, errors.New("kubelease: Config.Host must have no query and no fragment")
	case c.Token != "" && c.TokenFile != "":
		return nil, errors.New("kubelease: Config has both a Token and a TokenFile")
	case host.Scheme == "http" && (c.Token != "" || c.TokenFile != ""):
		return nil, fmt.Errorf("kubelease: %s would send the token for all to read: use https", host)
	case !validLabel(c.Namespace):
		return nil, fmt.Errorf("kubelease: Config.Namespace %q is not the name of a namespace: %s", c.Namespace, labelRule)
	}
	return host, nil
}

const labelRule = "it must have 1 to 63 characters a-z, 0-9 and -, and none of - at its ends"

// validLabel tells whether s is a DNS label of RFC 1123, which is what a namespace's name, a label's value and the beginning of an
// object's name may be.
func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') })
}

// tokenAge is how long a token that was read from a file is used. Kubernetes replaces the file when a fifth of the token's life is left,
// which is two minutes at the least.
const tokenAge = time.Minute

// tokens has the token of each request.
type tokens struct {
	file string // empty: token never changes

	mu    sync.Mutex // guards the following
	token string
	read  time.Time // when token was read from file; zero: not yet
}

// get returns the token, or an empty one if there is none to send. It reads the file if that is due, or if refused says that the API
// server has refused the token. If the file can't be read, the token goes on being used that was read before.
func (t *tokens) get(refused bool) (string, error) {
	if t.file == "" {
		return t.token, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !refused && !t.read.IsZero() && time.Since(t.read) < tokenAge {
		return t.token, nil
	}
	text, err := os.ReadFile(t.file)
	token := strings.TrimSpace(string(text))
	switch {
	case err == nil && token != "":
		t.token, t.read = token, time.Now()
	case t.token != "":
	case err != nil:
		return "", fmt.Errorf("kubelease: token: %w", err)
	default:
		return "", fmt.Errorf("kubelease: token: %s is empty", t.file)
	}
	return t.token, nil
}
