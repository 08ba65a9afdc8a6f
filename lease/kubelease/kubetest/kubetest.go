// Package kubetest starts a real kube-apiserver for tests, with an etcd in the same process. Command build builds it, once per machine:
//
//	go run ./lease/kubelease/kubetest/build
package kubetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/kubelease"
)

// version is that of Kubernetes in testdata/apiserver, and a number that grows when something else there changes.
const version = "v1.37.2-1"

// Path returns where the server is, or will be once command build has run.
func Path() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "taskmanager", "kube-apiserver-"+version), nil
}

// A Server is an API server that runs until the end of a test.
type Server struct {
	t       testing.TB
	binary  string
	dir     string
	ports   [3]int // API, etcd for clients, etcd for peers
	admin   string // the token of one who may do everything
	roots   *x509.CertPool
	process *exec.Cmd
	exited  chan struct{} // closed when process has ended
}

// Start starts a server, and returns when it serves. The test is skipped if there is none on this machine, and fails if the environment
// variable TASKMANAGER_SERVERS is "required" then. The server is killed when the test has ended.
func Start(t testing.TB) *Server {
	t.Helper()
	binary, err := Path()
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		const how = "no kube-apiserver: go run ./lease/kubelease/kubetest/build builds it, in some minutes"
		if os.Getenv("TASKMANAGER_SERVERS") == "required" {
			require.Fail(t, how)
		}
		t.Skip(how)
	}
	s := &Server{t: t, binary: binary, dir: t.TempDir(), admin: rand.Text()}
	s.certificates()
	s.write("tokens.csv", []byte(s.admin+`,admin,admin,"system:masters"`+"\n"))
	t.Cleanup(s.Kill)
	// A port that is free may be taken when the server gets to it.
	for range 3 {
		s.choosePorts()
		if s.start() {
			return s
		}
	}
	require.Fail(t, "kube-apiserver does not start", s.log())
	return nil
}

// Kill ends the server, by SIGKILL: it does not end within 10 s if it is asked to.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
}

// Restart starts a server that was killed, with the same data and address, and returns when it serves.
func (s *Server) Restart() {
	s.t.Helper()
	require.True(s.t, s.start(), "kube-apiserver does not start again: %s", s.log())
}

// URL returns the address of the server.
func (s *Server) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", s.ports[0]) }

// Config returns a Config for somebody who may do everything.
func (s *Server) Config(namespace string) kubelease.Config {
	return kubelease.Config{
		Host: s.URL(), Namespace: namespace, Token: s.admin,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots},
	}
}

// Authority returns the certificate of the authority that has signed the server's, in PEM, for a Config in another process.
func (s *Server) Authority() []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.file("tls.crt"))
	require.NoError(s.t, err)
	return text
}

// Namespace makes a namespace with that name.
func (s *Server) Namespace(name string) {
	s.t.Helper()
	s.Create("/api/v1/namespaces", fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", name))
}

// Account makes a service account in the namespace and binds it to a Role, which is a manifest in YAML. It returns the account's token.
func (s *Server) Account(namespace, role string) (token string) {
	s.t.Helper()
	name := "account-" + strings.ToLower(rand.Text())
	in := func(group string) string { return group + "/namespaces/" + namespace }
	const rbac = "/apis/rbac.authorization.k8s.io/v1"
	s.Create(in("/api/v1")+"/serviceaccounts", fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: %s}}", name))
	var made struct{ Metadata struct{ Name string } }
	require.NoError(s.t, json.Unmarshal(s.Create(in(rbac)+"/roles", role), &made))
	s.Create(in(rbac)+"/rolebindings", fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %s}
subjects: [{kind: ServiceAccount, name: %s, namespace: %s}]
`, name, made.Metadata.Name, name, namespace))
	var answer struct{ Status struct{ Token string } }
	require.NoError(s.t, json.Unmarshal(s.Create(in("/api/v1")+"/serviceaccounts/"+name+"/token",
		"{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {expirationSeconds: 3600}}"), &answer))
	require.NotEmpty(s.t, answer.Status.Token)
	return answer.Status.Token
}

// Create posts a manifest in YAML to a path of the API, and returns the object that this has made, in JSON.
func (s *Server) Create(path, manifest string) []byte {
	s.t.Helper()
	code, answer := s.Do(http.MethodPost, path, manifest)
	require.Less(s.t, code, 300, "create at %s: %s", path, answer)
	return answer
}

// Do sends a request for somebody who may do everything, with a body in YAML, and returns the status code and the body of the answer.
func (s *Server) Do(method, path, body string) (code int, answer []byte) {
	s.t.Helper()
	code, answer, err := s.request(s.t.Context(), method, path, body)
	require.NoError(s.t, err)
	return code, answer
}

func (s *Server) request(ctx context.Context, method, path, body string) (code int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.admin)
	req.Header.Set("Content-Type", "application/yaml")
	req.Header.Set("Accept", "application/json")
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots}, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// start starts the process and waits until it serves. It returns false if the process ends before.
func (s *Server) start() bool {
	s.t.Helper()
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(s.t, err)
	defer func() { _ = log.Close() }()
	// It is killed when the test ends, and may outlive this call.
	cmd := exec.CommandContext(
		context.WithoutCancel(s.t.Context()), s.binary,
		"--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", s.ports[0]),
		// It refuses to advertise a loopback address, and nobody uses this one.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=192.0.2.0/24",
		"--cert-dir="+s.dir, "--tls-cert-file="+s.file("tls.crt"), "--tls-private-key-file="+s.file("tls.key"),
		"--service-account-key-file="+s.file("tls.key"), "--service-account-signing-key-file="+s.file("tls.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--disable-admission-plugins=ServiceAccount",
		"--token-auth-file="+s.file("tokens.csv"), "--authorization-mode=RBAC",
	)
	cmd.Env = append(os.Environ(), "ETCD_DATA="+s.file("etcd"),
		fmt.Sprint("ETCD_CLIENT=http://127.0.0.1:", s.ports[1]), fmt.Sprint("ETCD_PEER=http://127.0.0.1:", s.ports[2]))
	cmd.Stdout, cmd.Stderr = log, log
	_, err = cmd.StdinPipe() // it ends when this process does, as its standard input ends then
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	exited := make(chan struct{})
	s.process, s.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		if code, _, err := s.request(ctx, http.MethodGet, "/readyz", ""); err == nil && code == http.StatusOK {
			return true
		}
		select {
		case <-exited:
			s.process = nil
			return false
		case <-ctx.Done():
			require.Fail(s.t, "kube-apiserver is not ready", s.log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// log returns the end of what the server has written.
func (s *Server) log() string {
	text, _ := os.ReadFile(s.file("log"))
	return string(text[max(0, len(text)-4000):])
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) write(name string, text []byte) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.file(name), text, 0o600))
}

// choosePorts takes ports below those that outgoing connections get.
func (s *Server) choosePorts() {
	s.t.Helper()
	for i := range s.ports {
		for {
			s.ports[i] = 20_000 + mathrand.IntN(12_000)
			l, err := new(net.ListenConfig).Listen(s.t.Context(), "tcp", fmt.Sprint("127.0.0.1:", s.ports[i]))
			if err == nil {
				require.NoError(s.t, l.Close())
				break
			}
		}
	}
}

// certificates makes the key and the certificate of the server. The key signs the tokens of service accounts too.
func (s *Server) certificates() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(s.t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(s.t, err)
	var text bytes.Buffer
	require.NoError(s.t, pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	s.write("tls.crt", text.Bytes())
	s.roots = x509.NewCertPool()
	require.True(s.t, s.roots.AppendCertsFromPEM(text.Bytes()))
	s.write("tls.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
}
