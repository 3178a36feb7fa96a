package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/testdata"
)

type observer = func(*http.Request, middleware.Result)

// fewCases are enough to tell right from wrong and need no slow keys: the HMAC
// cases of GitHub's documentation and such, and some tampered ones.
func fewCases() ([]testdata.Case, error) {
	all, err := testdata.Cases()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c testdata.Case) bool {
		return c.Kind != "hmac" || c.Source != "published" && c.Want == "ok"
	}), nil
}

func TestEverythingIsJudgedRightly(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), &out, options{routes: (*receiver).routes, cases: testdata.Cases})
	require.NoError(t, err, out.String())
	text := out.String()
	assert.NotContains(t, text, "✗")
	assert.Contains(t, text, "judged rightly, 0 wrongly.")

	all, err := testdata.Cases()
	require.NoError(t, err)
	sent := 0
	for _, c := range all {
		if unfitForHTTP(c.Value) == "" {
			sent++
		}
	}
	require.Greater(t, sent, 3000)
	for _, want := range [][]string{
		{"Haptik", "genuine", "200", "ran, key 0", "✓"},
		{"one bit of the body changed", "401", "did not run", "✓"},
		{"previous key, during the rotation", "200", "ran, key 1", "✓"},
		{"previous key, after the rotation", "401", "did not run", "✓"},
		{"HEAD, not signed", "200", "did not run", "✓"}, // SalesIQ
		{"HEAD, not signed", "405", "did not run", "✓"}, // the others
		{"Java 17", "DSA", "genuine", "accepted", "✓"},
		{"Java 17", "RSA", "tampered", "refused", "✓"},
		{"OpenSSL 3", "DSA", "genuine", "accepted", "✓"},
		{"Python 3", "HMAC", "tampered", "refused", "✓"},
	} {
		assert.True(t, hasLine(text, want), "no line has %q in\n%s", want, text)
	}
	assert.Equal(t, 40+count(all), strings.Count(text, "✓"), "rows with a verdict")
}

// count returns how many rows cases make.
func count(cases []testdata.Case) int {
	groups := make(map[string]bool)
	for _, c := range cases {
		groups[vectorGroup(c)] = true
	}
	return len(groups)
}

func hasLine(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

// TestWrongReceiversAreFound shows that the verdict can be "wrongly".
func TestWrongReceiversAreFound(t *testing.T) {
	everywhere := func(h http.Handler) *http.ServeMux {
		mux := http.NewServeMux()
		mux.Handle("/hooks/", h)
		return mux
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	tests := map[string]struct {
		routes routes
		wrong  string // what the report says
	}{
		"no Guard": {
			func(_ *receiver, app http.Handler, _ observer) *http.ServeMux { return everywhere(app) },
			"the handler must not run",
		},
		"no Guard and no look at the Delivery": {
			func(_ *receiver, app http.Handler, _ observer) *http.ServeMux {
				return everywhere(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { app.ServeHTTP(discard{}, r) }))
			},
			"must be answered 401",
		},
		"every delivery refused": {
			func(_ *receiver, _ http.Handler, _ observer) *http.ServeMux {
				return everywhere(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
			},
			"the handler must run",
		},
		"handler never runs": {
			func(rc *receiver, _ http.Handler, o observer) *http.ServeMux { return rc.routes(ok, o) },
			"the handler must run",
		},
		"handler runs twice": {
			func(rc *receiver, app http.Handler, o observer) *http.ServeMux {
				return rc.routes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					app.ServeHTTP(w, r)
					app.ServeHTTP(discard{}, r)
				}), o)
			},
			"the handler must run once",
		},
		"handler runs after a refusal": {
			func(rc *receiver, app http.Handler, o observer) *http.ServeMux {
				return everywhere(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					rc.routes(app, o).ServeHTTP(w, r)
					_ = http.NewResponseController(w).Flush() // the client has its answer
					app.ServeHTTP(discard{}, r)
				}))
			},
			"the handler must not run",
		},
		"handler gets other bytes": {
			func(rc *receiver, app http.Handler, o observer) *http.ServeMux {
				return rc.routes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						panic(err)
					}
					r.Body = io.NopCloser(bytes.NewReader(append(body, '\n')))
					app.ServeHTTP(w, r)
				}), o)
			},
			"the handler must get the bytes that were sent",
		},
		"previous key forgotten": {
			func(rc *receiver, app http.Handler, o observer) *http.ServeMux {
				return rc.routesWith(app, o, firstKeyOnly{rc.salesiq})
			},
			"must be answered 200",
		},
		"SalesIQ's probe not answered": {
			func(rc *receiver, app http.Handler, o observer) *http.ServeMux {
				mux := rc.routes(app, o)
				mux.Handle("HEAD /hooks/salesiq", http.NotFoundHandler())
				return mux
			},
			"must be answered 200",
		},
		"nobody observes": {
			func(rc *receiver, app http.Handler, _ observer) *http.ServeMux {
				return rc.routes(app, func(*http.Request, middleware.Result) {})
			},
			"a Guard must report it once, not 0 times",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), &out, options{routes: test.routes, cases: fewCases})
			require.ErrorContains(t, err, "judged wrongly: ")
			assert.Contains(t, out.String(), test.wrong)
			assert.NotContains(t, out.String(), " 0 wrongly.")
		})
	}
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// firstKeyOnly refuses what another key than the first has signed.
type firstKeyOnly struct{ middleware.KeyVerifier }

func (v firstKeyOnly) Verify(body []byte, header http.Header) error {
	_, err := v.VerifyKey(body, header)
	return err
}

func (v firstKeyOnly) VerifyKey(body []byte, header http.Header) (int, error) {
	key, err := v.KeyVerifier.VerifyKey(body, header)
	if err == nil && key != 0 {
		return -1, hmac.ErrMismatch
	}
	return key, err
}

// routesWith returns routes with another Verifier for SalesIQ.
func (rc *receiver) routesWith(app http.Handler, observe observer, salesiq middleware.Verifier) *http.ServeMux {
	guard := &middleware.Guard{Verifier: salesiq, Contract: middleware.SalesIQ(), Observe: observe}
	mux := http.NewServeMux()
	mux.Handle("/", rc.routes(app, observe))
	mux.Handle("/hooks/salesiq", guard.Handler(app))
	return mux
}

func TestWrongVerdictsOnVectorsAreFound(t *testing.T) {
	few, err := fewCases()
	require.NoError(t, err)
	change := func(from, to string) func() ([]testdata.Case, error) {
		return func() ([]testdata.Case, error) {
			cases := slices.Clone(few)
			i := slices.IndexFunc(cases, func(c testdata.Case) bool { return c.Want == from && unfitForHTTP(c.Value) == "" })
			cases[i].Want = to
			return cases, nil
		}
	}
	broken := errors.New("broken")
	tests := map[string]struct {
		cases   func() ([]testdata.Case, error)
		wantErr string
	}{
		"a genuine one should have been refused": {change("ok", "mismatch"), "judged wrongly: 1"},
		"a tampered one should have been taken":  {change("mismatch", "ok"), "judged wrongly: 1"},
		"refused for another reason":             {change("mismatch", "malformed"), "judged wrongly: 1"},
		"unknown verdict":                        {change("ok", "fine"), `wants "fine"`},
		"none":                                   {func() ([]testdata.Case, error) { return nil, nil }, "no deliveries were judged"},
		"not to be read":                         {func() ([]testdata.Case, error) { return nil, broken }, "broken"},
		"none of them can be sent":               {func() ([]testdata.Case, error) { return []testdata.Case{{Value: "a\nb"}}, nil }, "no deliveries were judged"},
		"of a hash that nobody knows":            {func() ([]testdata.Case, error) { return []testdata.Case{{Body64: []byte("a"), Want: "ok"}}, nil }, "unknown hash"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), io.Discard, options{routes: (*receiver).routes, cases: test.cases})
			require.ErrorContains(t, err, test.wantErr)
		})
	}
}

func TestUnsentCasesAreCounted(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, options{routes: (*receiver).routes, cases: fewCases}), out.String())
	assert.Contains(t, out.String(), "20 are not sent: a line break in the value")
}

func TestUnfitForHTTP(t *testing.T) {
	for value, fit := range map[string]bool{
		"": true, "sha1=00ff": true, "a b": true, "a\tb": true, "a,b": true,
		"a\r\nb": false, "a\n": false, "a\rb": false, "a\x00b": false, "\x7f": false, " a": false, "a\t": false,
	} {
		assert.Equal(t, fit, unfitForHTTP(value) == "", "%q", value)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, io.Discard, options{routes: (*receiver).routes, cases: fewCases})
	require.ErrorIs(t, err, context.Canceled)
}

func TestListen(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no POSIX shell to read the commands")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, writer, options{listen: "127.0.0.1:0", routes: (*receiver).routes})
		writer.Close()
		done <- err
	}()

	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var reports []string
	tried := 0
	for line := range lines {
		title, isTitle := strings.CutPrefix(line, "# ")
		if !isTitle {
			reports = append(reports, line)
			if strings.HasPrefix(line, "The keys are new") {
				cancel()
			}
			continue
		}
		req := requestOf(t, shell, <-lines)
		res, err := client.Do(req)
		require.NoError(t, err, title)
		require.NoError(t, res.Body.Close())
		want := http.StatusUnauthorized
		if strings.Contains(title, "genuine") {
			want = http.StatusOK
		}
		assert.Equal(t, want, res.StatusCode, title)
		assert.Contains(t, title, strconv.Itoa(want))
		tried++
	}
	require.NoError(t, <-done)
	assert.Equal(t, 8, tried, "a genuine and a tampered delivery of four senders")
	for _, sender := range []string{"haptik", "compliancely", "salesiq", "convokraft"} {
		text := strings.Join(reports, "\n")
		assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d `+sender+` accepted 200$`, text)
		assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d `+sender+` refused 401: `, text)
	}
}

// requestOf returns what a curl command sends, its words taken apart by a shell.
func requestOf(t *testing.T, shell, command string) *http.Request {
	t.Helper()
	script := `curl() { printf '%s\0' "$@"; }` + "\n" + command
	out, err := exec.CommandContext(t.Context(), shell, "-c", script).Output()
	require.NoError(t, err, command)
	words := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var url, body string
	header := make(http.Header)
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "-i":
		case "-H":
			i++
			name, value, found := strings.Cut(words[i], ": ")
			require.True(t, found, words[i])
			header.Add(name, value)
		case "--data-binary":
			i++
			body = words[i]
		default:
			require.Empty(t, url, "two URLs in %s", command)
			url = words[i]
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = header
	return req
}

func TestListenOnAnAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	err = run(t.Context(), io.Discard, options{listen: listener.Addr().String(), routes: (*receiver).routes})
	var opErr *net.OpError
	require.ErrorAs(t, err, &opErr)
}

func TestBaseURLReachesThisMachine(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80",
		"[::]:80": "http://127.0.0.1:80", "[::1]:80": "http://[::1]:80",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		require.NoError(t, err)
		assert.Equal(t, want, baseURL(tcp))
	}
}
