package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyServer serves keys over TLS, with an ETag.
type keyServer struct {
	*httptest.Server
	mu       sync.Mutex
	body     string
	handle   http.HandlerFunc // if not nil, in place of the rest
	statuses []int            // of the answers
	tokens   []string         // Authorization of the requests
}

func newKeyServer(t *testing.T) *keyServer {
	s := new(keyServer)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that a test makes fail
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, r.Header.Get("Authorization"))
	if s.handle != nil {
		s.handle(w, r)
		return
	}
	tag := fmt.Sprintf(`"%x"`, s.body)
	status := http.StatusOK
	if r.Header.Get("If-None-Match") == tag {
		status = http.StatusNotModified
	}
	s.statuses = append(s.statuses, status)
	w.Header().Set("ETag", tag)
	w.WriteHeader(status)
	if status == http.StatusOK {
		_, _ = io.WriteString(w, s.body)
	}
}

func (s *keyServer) answer(handle http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
}

func (s *keyServer) become(keys ...[]byte) {
	object := map[string]string{"current": string(keys[0])}
	if len(keys) > 1 {
		object["previous"] = string(keys[1])
	}
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle, s.body = nil, string(body)
}

// transport trusts the server.
func (s *keyServer) transport() *http.Transport {
	return s.Client().Transport.(*http.Transport)
}

func TestFetched(t *testing.T) {
	t.Parallel()
	s := newKeyServer(t)
	f, err := newFetched(s.URL+"/keys", "token", s.transport())
	require.NoError(t, err)
	s.become([]byte("a"))
	assert.Equal(t, []string{"a"}, load(t, f))
	assert.Equal(t, []string{"a"}, load(t, f))
	s.become([]byte("b"), []byte("a"))
	assert.Equal(t, []string{"b", "a"}, load(t, f))
	assert.Equal(t, []string{"b", "a"}, load(t, f))
	assert.Equal(t, []int{200, 304, 200, 304}, s.statuses)
	assert.Equal(t, "Bearer token", s.tokens[0])
}

// TestFetchedFailures sees to it that nothing of an answer is taken for keys
// unless all of it is right.
func TestFetchedFailures(t *testing.T) {
	t.Parallel()
	plainServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"current":"stolen"}`)
	}))
	defer plainServer.Close()
	s := newKeyServer(t)
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	tests := map[string]struct {
		handle  http.HandlerFunc
		wantErr string
	}{
		"error":               {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "status 500"},
		"no content":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "status 204"},
		"304 to no condition": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "status 304"},
		"redirect to http":    {redirect(plainServer.URL), "not https"},
		"redirects for ever":  {redirect("/keys"), "too often"},
		"too large":           {text(`{"current":"` + strings.Repeat("a", maxText) + `"}`), "more than"},
		"no JSON":             {text("SECRETSECRET"), "something else"},
		"another type":        {text(`{"current":12345678}`), "something else"},
		"no current":          {text(`{"previous":"SECRETSECRET"}`), "something else"},
		"empty":               {text(""), "something else"},
		"two objects":         {text(`{"current":"SECRETSECRET"}{}`), "something else"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"current":"SECRETSECRET"}`)
		}, "unexpected EOF"},
		"connection closed": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := newFetched(s.URL+"/keys?token=SECRETSECRET", "SECRETSECRET", s.transport())
			require.NoError(t, err)
			s.answer(test.handle)
			_, err = f.Load(t.Context())
			require.ErrorContains(t, err, test.wantErr)
			assert.NotContains(t, err.Error(), "SECRET")
			assert.NotContains(t, err.Error(), s.URL)
			assert.NotContains(t, err.Error(), "1234")
			assert.Empty(t, f.etag)
		})
	}
	t.Run("in three redirects", func(t *testing.T) {
		f, err := newFetched(s.URL+"/0", "", s.transport())
		require.NoError(t, err)
		s.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/2" {
				text(`{"current":"a"}`)(w, r)
				return
			}
			redirect(fmt.Sprintf("/%c", r.URL.Path[1]+1))(w, r)
		})
		assert.Equal(t, []string{"a"}, load(t, f))
	})
	t.Run("not trusted", func(t *testing.T) {
		f, err := newFetched(s.URL, "", nil)
		require.NoError(t, err)
		_, err = f.Load(t.Context())
		require.ErrorContains(t, err, "certificate")
	})
	t.Run("expired", func(t *testing.T) {
		transport := s.transport().Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, Time: func() time.Time { return time.Unix(1<<33, 0) }}
		f, err := newFetched(s.URL, "", transport)
		require.NoError(t, err)
		_, err = f.Load(t.Context())
		require.EqualError(t, err, "the certificate has expired or is not valid yet")
	})
	t.Run("slow", func(t *testing.T) {
		released := make(chan struct{})
		slow := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released }))
		defer slow.Close()
		defer close(released)
		f, err := newFetched(slow.URL, "", slow.Client().Transport.(*http.Transport))
		require.NoError(t, err)
		f.client.Timeout = 50 * time.Millisecond
		_, err = f.Load(t.Context())
		require.EqualError(t, err, "no answer in time")
	})
	t.Run("not there", func(t *testing.T) {
		gone := httptest.NewTLSServer(http.NotFoundHandler())
		f, err := newFetched(gone.URL, "", gone.Client().Transport.(*http.Transport))
		require.NoError(t, err)
		gone.Close()
		_, err = f.Load(t.Context())
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "127.0.0.1")
	})
}

func TestURLsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "keys", "http://example.com/keys", "https:///keys", "ftp://example.com", "https://user:SECRET@example.com/", "https://SECRET\x7f",
	} {
		_, err := newFetched(address, "", nil)
		require.Error(t, err, address)
		assert.NotContains(t, err.Error(), "SECRET")
	}
	f, err := newFetched("https://example.com/keys", "", nil)
	require.NoError(t, err)
	config := f.client.Transport.(*http.Transport).TLSClientConfig
	assert.False(t, config.InsecureSkipVerify)
	assert.EqualValues(t, tls.VersionTLS12, config.MinVersion)
}

// TestBadKeysBehindAGoodURL: a 304 that says that bad keys are still the same
// does not say that all is well again.
func TestBadKeysBehindAGoodURL(t *testing.T) {
	t.Parallel()
	kind := kinds()["RSA"]
	s := newKeyServer(t)
	f, err := newFetched(s.URL, "", s.transport())
	require.NoError(t, err)
	s.become(kind.pairs[0].text)
	log := new(logBook)
	k := &keeper{sender: "salesiq", source: f, log: log.logger()}
	v, err := kind.keep(t.Context(), k)
	require.NoError(t, err)

	s.become(kind.broken)
	for range 3 {
		k.look(t.Context(), false)
	}
	assert.Equal(t, []int{200, 200, 304, 304}, s.statuses)
	assert.Equal(t, 1, log.count(sayFailing))
	assert.Zero(t, log.count(sayGood))
	assert.Equal(t, [3]int{0, -1, -1}, kind.judge(t, v))

	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	k.look(t.Context(), false)
	assert.Equal(t, [3]int{0, -1, -1}, kind.judge(t, v))

	s.become(kind.pairs[1].text, kind.pairs[0].text)
	k.look(t.Context(), false)
	assert.Equal(t, 1, log.count(sayGood))
	assert.Equal(t, [3]int{1, 0, -1}, kind.judge(t, v))

	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	before := log.String()
	k.look(stopped, false)
	assert.Equal(t, before, log.String(), "a stop is no failure")
	assertKeepsSecrets(t, log.String(), kind.texts()...)
}
