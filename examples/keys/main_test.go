package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// running is a receiver that runs.
type running struct {
	t    *testing.T
	base string
	log  *logBook
	stop func() error
}

func startReceiver(t *testing.T, env map[string]string, o options) *running {
	t.Helper()
	rn := &running{t: t, log: new(logBook)}
	o.listen, o.log = "127.0.0.1:0", rn.log.logger()
	before := slog.Default() // the Guards'
	slog.SetDefault(o.log)
	t.Cleanup(func() { slog.SetDefault(before) })
	o.getenv = func(name string) string { return env[name] }
	ready, done := make(chan struct{}), make(chan error, 1)
	o.ready = func(addr net.Addr) {
		rn.base = "http://" + addr.String()
		close(ready)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- run(ctx, o) }()
	rn.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { assert.NoError(t, rn.stop()) })
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return rn
}

// deliver returns the status of the answer to a delivery signed with p.
func (rn *running) deliver(k *kind, p pair) int {
	rn.t.Helper()
	body := `{"handler":"message"}`
	value, err := p.sign([]byte(body))
	require.NoError(rn.t, err)
	req, err := http.NewRequestWithContext(rn.t.Context(), http.MethodPost, rn.base+"/hooks/"+k.contract.Sender, strings.NewReader(body))
	require.NoError(rn.t, err)
	req.Header.Set(k.header, value)
	res, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(rn.t, err)
	require.NoError(rn.t, res.Body.Close())
	return res.StatusCode
}

func (rn *running) eventually(k *kind, p pair, status int) {
	rn.t.Helper()
	require.Eventually(rn.t, func() bool { return rn.deliver(k, p) == status }, 10*time.Second, 20*time.Millisecond)
}

// TestThreeSenders has keys from the environment, from files and from a URL,
// and changes what can be changed.
func TestThreeSenders(t *testing.T) {
	haptik, salesiq, convokraft := kinds()["HMAC"], kinds()["RSA"], kinds()["DSA"]
	file := filepath.Join(t.TempDir(), "salesiq")
	put(t, file, salesiq.pairs[0].text)
	server := newKeyServer(t)
	server.become(convokraft.pairs[0].text)
	rn := startReceiver(t, map[string]string{
		"HAPTIK_SECRET":             string(haptik.pairs[0].text),
		"HAPTIK_SECRET_PREVIOUS":    string(haptik.pairs[1].text),
		"SALESIQ_PUBLIC_KEY_FILE":   file,
		"CONVOKRAFT_PUBLIC_KEY_URL": server.URL,
	}, options{files: 50 * time.Millisecond, urls: 50 * time.Millisecond, transport: server.transport()})

	assert.Equal(t, 200, rn.deliver(haptik, haptik.pairs[0]))
	assert.Equal(t, 200, rn.deliver(haptik, haptik.pairs[1]))
	assert.Equal(t, 401, rn.deliver(haptik, haptik.pairs[2]))
	assert.Equal(t, 401, rn.deliver(salesiq, salesiq.pairs[1]))
	assert.Equal(t, 401, rn.deliver(convokraft, convokraft.pairs[1]))
	put(t, file, salesiq.pairs[1].text)
	server.become(convokraft.pairs[1].text, convokraft.pairs[0].text)
	rn.eventually(salesiq, salesiq.pairs[1], 200)
	rn.eventually(convokraft, convokraft.pairs[1], 200)
	assert.Equal(t, 401, rn.deliver(salesiq, salesiq.pairs[0]), "it has no previous key")
	assert.Equal(t, 200, rn.deliver(convokraft, convokraft.pairs[0]))
	require.NoError(t, rn.stop())
	for _, k := range kinds() {
		assertKeepsSecrets(t, rn.log.String(), k.texts()...)
	}
	assert.Contains(t, rn.log.String(), "sender=convokraft size=21 key=1")
}

func TestConfigurationsThatAreWrong(t *testing.T) {
	tests := map[string]struct {
		env     map[string]string
		wantErr string
	}{
		"nothing":     {nil, "no keys"},
		"two places":  {map[string]string{"HAPTIK_SECRET": "SECRETSECRET", "HAPTIK_SECRET_FILE": "x"}, "and not several"},
		"http":        {map[string]string{"HAPTIK_SECRET_URL": "http://example.com/SECRET"}, "HAPTIK_SECRET_URL"},
		"no key":      {map[string]string{"SALESIQ_PUBLIC_KEY": "SECRETSECRET"}, "keys of salesiq: the current key: "},
		"no file":     {map[string]string{"SALESIQ_PUBLIC_KEY_FILE": "SECRETSECRET"}, "keys of salesiq: the file with the current key: "},
		"no previous": {map[string]string{"HAPTIK_SECRET": "a", "HAPTIK_SECRET_PREVIOUS": "SECRET\nSECRET"}, "the previous key: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			log := new(logBook)
			err := run(t.Context(), options{
				listen: "127.0.0.1:0", files: time.Second, urls: time.Second, log: log.logger(),
				getenv: func(name string) string { return test.env[name] },
			})
			require.ErrorContains(t, err, test.wantErr)
			assert.NotContains(t, err.Error(), "SECRETSECRET")
			assert.NotContains(t, log.String(), "SECRET")
		})
	}
	require.Error(t, run(t.Context(), options{}))
}
