package hooktest

import (
	"bytes"
	"crypto"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const (
	testHeader = "X-Test-Signature"
	maxBody    = 1 << 20
)

var (
	testScheme = hmac.Scheme{Header: testHeader, Hash: crypto.SHA256}
	testBodies = [][]byte{[]byte(`{"event":"paid","amount":1200}`), []byte(`["a second body"]`)}

	// testContract has every term that a contract can have.
	testContract = middleware.Contract{
		Sender:      "test",
		Deadline:    2 * time.Second,
		Probe:       []string{http.MethodHead},
		MaxResponse: 1000,
		Forbidden:   []int{http.StatusGone},
	}
)

// handmade is a good receiver that uses nothing of this module. Its parts are
// replaced to make it a bad one.
type handmade struct {
	effects  atomic.Int64
	deadline func(http.ResponseWriter)
	probe    http.HandlerFunc
	method   http.HandlerFunc                                          // answers other methods
	length   int64                                                     // largest Content-Length
	read     func(http.ResponseWriter, *http.Request) ([]byte, error)  // reads the body
	verify   func(body []byte, header http.Header) error               // with the reason
	refuse   func(w http.ResponseWriter, err error) (proceed bool)     // answers what does not verify
	work     func(w http.ResponseWriter, r *http.Request, body []byte) // answers what does
}

var errStatus = errors.New("wrong")

func good() *handmade {
	h := &handmade{
		deadline: func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(testContract.Deadline))
		},
		probe:  func(http.ResponseWriter, *http.Request) {},
		method: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusMethodNotAllowed) },
		length: maxBody,
		read: func(w http.ResponseWriter, r *http.Request) ([]byte, error) {
			return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		},
		verify: verifies,
		refuse: func(w http.ResponseWriter, _ error) bool {
			http.Error(w, "refused", http.StatusUnauthorized)
			return false
		},
	}
	h.work = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		h.effects.Add(1)
		io.WriteString(w, "taken")
	}
	return h
}

func (h *handmade) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.deadline(w)
	switch {
	case r.Method == http.MethodHead:
		h.probe(w, r)
		return
	case r.Method != http.MethodPost:
		h.method(w, r)
		return
	case r.ContentLength > h.length:
		w.Header().Set("Connection", "close")
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return
	}
	body, err := h.read(w, r)
	if err != nil {
		w.Header().Set("Connection", "close")
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return
	}
	if err := h.verify(body, r.Header); err != nil && !h.refuse(w, err) {
		return
	}
	h.work(w, r, body)
}

// only returns the signature if there is exactly one.
func only(header http.Header) (string, error) {
	switch values := header[testHeader]; len(values) {
	case 0:
		return "", errors.New("no signature")
	case 1:
		return values[0], nil
	}
	return "", errors.New("several signatures")
}

func mac(key, body []byte) []byte {
	m := stdhmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil)
}

func equal(body []byte, signature string) error {
	got, err := hex.DecodeString(signature)
	switch {
	case err != nil:
		return err
	case !stdhmac.Equal(got, mac(secret, body)):
		return errors.New("wrong signature")
	}
	return nil
}

func verifies(body []byte, header http.Header) error {
	signature, err := only(header)
	if err != nil {
		return err
	}
	return equal(body, signature)
}

func (h *handmade) sender() *Sender {
	return &Sender{
		Contract: testContract,
		Header:   testHeader,
		Sign:     func(body []byte) (string, error) { return hmac.Sign(testScheme, secret, body) },
		Stranger: func(body []byte) (string, error) { return hex.EncodeToString(mac(nil, body)), nil },
		Effects:  func() int { return int(h.effects.Load()) },
	}
}

var (
	everyForgery = names(func(i int) string { return forgeries[i].name }, len(forgeries))
	everyGenuine = names(func(i int) string { return fmt.Sprint("genuine/", i) }, len(testBodies))
)

func names(name func(int) string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, name(i))
	}
	return all
}

func all(lists ...[]string) []string { return slices.Concat(lists...) }

// faulty are receivers with one fault each, and the obligations that find it.
var faulty = []struct {
	name  string
	spoil func(*handmade)
	finds []string
}{
	{"verifies nothing", func(h *handmade) {
		h.verify = func([]byte, http.Header) error { return nil }
	}, everyForgery},
	{"works before it verifies", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error { h.effects.Add(1); return verifies(body, header) }
		h.work = func(http.ResponseWriter, *http.Request, []byte) {}
	}, everyForgery},
	{"works in another goroutine before it verifies", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			time.AfterFunc(5*time.Millisecond, func() { h.effects.Add(1) })
			return verifies(body, header)
		}
		h.work = func(http.ResponseWriter, *http.Request, []byte) {}
	}, everyForgery},
	{"answers a refusal and goes on", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, _ error) bool {
			http.Error(w, "refused", http.StatusUnauthorized)
			return true
		}
		h.work = func(http.ResponseWriter, *http.Request, []byte) { h.effects.Add(1) }
	}, everyForgery},
	{"answers every refusal with a 500", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, _ error) bool {
			http.Error(w, "", http.StatusInternalServerError)
			return false
		}
	}, everyForgery},
	{"takes a delivery without the header", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			if header[testHeader] == nil {
				return nil
			}
			return verifies(body, header)
		}
	}, []string{"header missing"}},
	{"takes an empty header", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			if v := header[testHeader]; len(v) == 1 && v[0] == "" {
				return nil
			}
			return verifies(body, header)
		}
	}, []string{"header empty"}},
	{"takes the first of two headers", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error { return equal(body, header.Get(testHeader)) }
	}, []string{"header duplicated"}},
	{"takes the last of two headers", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			v := header[testHeader]
			if len(v) == 0 {
				return errors.New("missing")
			}
			return equal(body, v[len(v)-1])
		}
	}, []string{"header duplicated"}},
	{"splits the header at commas", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			v, err := only(header)
			if err != nil {
				return err
			}
			for part := range strings.SplitSeq(v, ",") {
				if equal(body, strings.TrimSpace(part)) == nil {
					return nil
				}
			}
			return errors.New("none is right")
		}
	}, []string{"header comma-joined"}},
	{"strips quotation marks", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			v, err := only(header)
			if err != nil {
				return err
			}
			return equal(body, strings.Trim(v, `"`))
		}
	}, []string{"header malformed"}},
	{"compares as much as it was sent", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			v, err := only(header)
			if err != nil {
				return err
			}
			got, err := hex.DecodeString(v)
			if err != nil || len(got) == 0 || !bytes.HasPrefix(mac(secret, body), got) {
				return errors.New("wrong")
			}
			return nil
		}
	}, []string{"header truncated"}},
	{"compares the first half", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			v, err := only(header)
			if err != nil {
				return err
			}
			got, err := hex.DecodeString(v)
			if err != nil || len(got) != sha256.Size || !bytes.HasPrefix(mac(secret, body), got[:16]) {
				return errors.New("wrong")
			}
			return nil
		}
	}, []string{"signature altered"}},
	{"verifies re-encoded JSON", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			var compact bytes.Buffer
			if json.Compact(&compact, body) == nil {
				body = compact.Bytes()
			}
			return verifies(body, header)
		}
	}, []string{"re-encoded body"}},
	{"trims the body", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error { return verifies(bytes.TrimSpace(body), header) }
	}, []string{"re-encoded body"}},
	{"verifies the beginning of the body", func(h *handmade) {
		h.read = func(w http.ResponseWriter, r *http.Request) ([]byte, error) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			return body[:min(len(body), len(testBodies[0]))], err
		}
	}, []string{"tampered body", "re-encoded body"}},
	{"verifies a body that has been read already", func(h *handmade) {
		h.verify = func(_ []byte, header http.Header) error { return verifies(nil, header) }
	}, all(everyGenuine, []string{"signature of another body", "retry", "concurrent retries", "burst"})},
	{"has an empty secret too", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			err := verifies(body, header)
			if v, _ := only(header); v == hex.EncodeToString(mac(nil, body)) {
				return nil
			}
			return err
		}
	}, []string{"another key"}},
	{"tells why in the body", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, err error) bool {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return false
		}
	}, []string{"same answer for every refusal"}},
	{"tells why in the header", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, err error) bool {
			w.Header().Set("X-Error", err.Error())
			http.Error(w, "", http.StatusUnauthorized)
			return false
		}
	}, []string{"same answer for every refusal"}},
	{"tells why by the status", func(h *handmade) {
		h.verify = func(body []byte, header http.Header) error {
			if _, err := only(header); err != nil {
				return errStatus
			}
			return verifies(body, header)
		}
		h.refuse = func(w http.ResponseWriter, err error) bool {
			status := http.StatusUnauthorized
			if err == errStatus {
				status = http.StatusBadRequest
			}
			http.Error(w, "", status)
			return false
		}
	}, []string{"same answer for every refusal"}},
	{"answers a malformed header with a 500", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, err error) bool {
			status := http.StatusUnauthorized
			if _, ok := errors.AsType[hex.InvalidByteError](err); ok {
				status = http.StatusInternalServerError
			}
			http.Error(w, "refused", status)
			return false
		}
	}, []string{"header malformed", "header comma-joined"}},
	{"panics on a malformed header", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, err error) bool {
			if _, ok := errors.AsType[hex.InvalidByteError](err); ok {
				panic("index out of range")
			}
			http.Error(w, "refused", http.StatusUnauthorized)
			return false
		}
	}, []string{"header malformed", "header comma-joined"}},
	{"hangs on a malformed header", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, err error) bool {
			if _, ok := errors.AsType[hex.InvalidByteError](err); ok {
				time.Sleep(testContract.Deadline + 100*time.Millisecond)
			}
			http.Error(w, "refused", http.StatusUnauthorized)
			return false
		}
	}, []string{"header malformed", "header comma-joined"}},
	{"waits for a body for ever", func(h *handmade) {
		h.deadline = func(http.ResponseWriter) {}
	}, []string{"trickling body"}},
	{"reads a body of any size", func(h *handmade) {
		h.read = func(_ http.ResponseWriter, r *http.Request) ([]byte, error) { return io.ReadAll(r.Body) }
	}, []string{"oversized body"}},
	{"does not look at Content-Length", func(h *handmade) {
		h.length = 1 << 60
	}, []string{"oversized Content-Length"}},
	{"answers before the body is there", func(h *handmade) {
		h.read = func(w http.ResponseWriter, r *http.Request) ([]byte, error) {
			if r.ContentLength < 0 || r.ContentLength == 65536 {
				return nil, nil
			}
			return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		}
		h.verify = func(body []byte, header http.Header) error {
			if body == nil {
				return nil
			}
			return verifies(body, header)
		}
		h.work = func(w http.ResponseWriter, _ *http.Request, body []byte) {
			if body != nil {
				h.effects.Add(1)
			}
			w.WriteHeader(http.StatusAccepted)
		}
	}, []string{"oversized body", "trickling body"}},
	{"answers too late", func(h *handmade) {
		h.work = func(http.ResponseWriter, *http.Request, []byte) {
			h.effects.Add(1)
			time.Sleep(testContract.Deadline + 100*time.Millisecond)
		}
	}, all(everyGenuine, []string{"retry", "concurrent retries", "burst"})},
	{"works on one delivery at a time", func(h *handmade) {
		var mu sync.Mutex
		h.work = func(http.ResponseWriter, *http.Request, []byte) {
			mu.Lock()
			defer mu.Unlock()
			h.effects.Add(1)
			time.Sleep(testContract.Deadline * 3 / 2 / burst)
		}
	}, []string{"burst"}},
	{"redirects", func(h *handmade) {
		h.work = func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}
	}, all(everyGenuine, []string{"retry", "concurrent retries", "burst"})},
	{"takes a delivery and drops it", func(h *handmade) {
		h.work = func(http.ResponseWriter, *http.Request, []byte) {}
	}, everyGenuine},
	{"works twice", func(h *handmade) {
		h.work = func(http.ResponseWriter, *http.Request, []byte) { h.effects.Add(2) }
	}, everyGenuine},
	{"refuses a retry", func(h *handmade) {
		var seen sync.Map
		h.work = func(w http.ResponseWriter, _ *http.Request, body []byte) {
			if _, again := seen.LoadOrStore(string(body), true); again {
				http.Error(w, "", http.StatusConflict)
				return
			}
			h.effects.Add(1)
		}
	}, []string{"retry", "concurrent retries", "burst"}},
	{"answers a retry with 503 for ever", func(h *handmade) {
		var seen sync.Map
		h.work = func(w http.ResponseWriter, _ *http.Request, body []byte) {
			if _, again := seen.LoadOrStore(string(body), true); again {
				http.Error(w, "", http.StatusServiceUnavailable)
				return
			}
			h.effects.Add(1)
		}
	}, []string{"retry", "concurrent retries", "burst"}},
	{"wants a signature from probes", func(h *handmade) {
		h.probe = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	}, []string{"probes"}},
	{"works on probes", func(h *handmade) {
		h.probe = func(http.ResponseWriter, *http.Request) { h.effects.Add(1) }
	}, []string{"probes"}},
	{"takes a GET", func(h *handmade) {
		h.method = func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		}
	}, []string{"other methods"}},
	{"takes a signed PUT", func(h *handmade) {
		h.method = func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPut && verifies(body, r.Header) == nil {
				h.effects.Add(1)
				return
			}
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	}, []string{"other methods"}},
	{"answers at length", func(h *handmade) {
		h.work = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			h.effects.Add(1)
			_, _ = w.Write(make([]byte, testContract.MaxResponse+1))
		}
	}, []string{"answer size"}},
	{"refuses at length", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, _ error) bool {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write(make([]byte, testContract.MaxResponse+1))
			return false
		}
	}, []string{"answer size"}},
	{"refuses with 410", func(h *handmade) {
		h.refuse = func(w http.ResponseWriter, _ error) bool { http.Error(w, "", http.StatusGone); return false }
	}, []string{"forbidden status"}},
	{"refuses other methods with 410", func(h *handmade) {
		h.method = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }
	}, []string{"forbidden status"}},
}

// found runs those obligations that are slow, or those that are not, and
// returns the names of the ones that find a fault.
func found(t testing.TB, h http.Handler, s *Sender, slow bool) []string {
	target, err := serve(h, s, testBodies, log.New(io.Discard, "", 0))
	require.NoError(t, err)
	defer target.server.Close() // sooner than target.close
	names := []string{}
	for _, o := range obligations(len(testBodies)) {
		if o.slow != slow {
			continue
		}
		if err := o.check(target); err != nil && !errors.Is(err, errNothing) {
			t.Logf("%s: %v", o.name, err)
			names = append(names, o.name)
		}
	}
	return names
}

// expected returns those of finds that are slow, or those that are not.
func expected(t testing.TB, finds []string, slow bool) []string {
	names, known := []string{}, 0
	for _, o := range obligations(len(testBodies)) {
		if slices.Contains(finds, o.name) {
			known++
			if o.slow == slow {
				names = append(names, o.name)
			}
		}
	}
	require.Equal(t, len(finds), known, "an obligation has another name")
	return names
}

// TestFaultsAreFound: the obligations find each fault, and no other one
// complains of it.
func TestFaultsAreFound(t *testing.T) {
	require.Greater(t, len(faulty), 10)
	sideBySide(len(faulty), 10, func(i int) {
		t.Run(faulty[i].name, func(t *testing.T) {
			h := good()
			faulty[i].spoil(h)
			assert.ElementsMatch(t, expected(t, faulty[i].finds, false), found(t, h, h.sender(), false))
		})
	})
}

// sideBySide calls f for 0 to n-1, at most limit of them at a time. Tests that
// wait more than they work need not wait for each other, as t.Parallel makes
// them on few processors.
func sideBySide(n, limit int, f func(i int)) {
	slots := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// TestSlowFaultsAreFound is TestFaultsAreFound for what takes a deadline, all
// receivers at once.
func TestSlowFaultsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a deadline")
	}
	sideBySide(len(faulty), len(faulty), func(i int) {
		t.Run(faulty[i].name, func(t *testing.T) {
			h := good()
			faulty[i].spoil(h)
			assert.ElementsMatch(t, expected(t, faulty[i].finds, true), found(t, h, h.sender(), true))
		})
	})
}

// TestEveryObligationFinds: none is there that no fault needs.
func TestEveryObligationFinds(t *testing.T) {
	for _, o := range obligations(len(testBodies)) {
		assert.True(t, slices.ContainsFunc(faulty, func(f struct {
			name  string
			spoil func(*handmade)
			finds []string
		}) bool {
			return slices.Contains(f.finds, o.name)
		}), o.name)
		assert.NotEmpty(t, o.why, o.name)
		assert.NotEmpty(t, o.change, o.name)
	}
}

// TestOnceIsHeldTo: a receiver that works on retries breaks a promise only if
// it made one.
func TestOnceIsHeldTo(t *testing.T) {
	h := good()
	assert.Empty(t, found(t, h, h.sender(), false))
	s := h.sender()
	s.Once = true
	assert.Equal(t, []string{"retry", "concurrent retries"}, found(t, h, s, false))
}

const faultVariable = "HOOKTEST_FAULT"

// TestReceiverFails: TestReceiver fails where an obligation does, says what to
// do and goes on. It runs itself in another process, where it fails.
func TestReceiverFails(t *testing.T) {
	if fault := os.Getenv(faultVariable); fault != "" {
		h := good()
		switch fault {
		case "no handler":
			TestReceiver(t, nil, h.sender())
		case "no Sign":
			TestReceiver(t, h, &Sender{Header: testHeader})
		}
		for _, f := range faulty {
			if f.name == fault {
				f.spoil(h)
			}
		}
		TestReceiver(t, h, h.sender(), testBodies...)
		return
	}
	chosen := []string{"takes the first of two headers", "panics on a malformed header", "verifies nothing"}
	sideBySide(len(faulty), len(chosen), func(i int) {
		f := faulty[i]
		if !slices.Contains(chosen, f.name) {
			return
		}
		t.Run(f.name, func(t *testing.T) {
			out := rerun(t, f.name)
			failed := regexp.MustCompile(`(?m)^ +--- FAIL: TestReceiverFails/(.*) \(`).FindAllSubmatch(out, -1)
			var names []string
			for _, m := range failed {
				names = append(names, strings.ReplaceAll(string(m[1]), "_", " "))
			}
			assert.ElementsMatch(t, f.finds, names, "%s", out)
			for _, text := range []string{"the receiver ", "expected ", "why it matters: ", "what to change: ", "--- PASS: TestReceiverFails/answer_size"} {
				assert.Contains(t, string(out), text)
			}
			assert.NotContains(t, string(out), "DATA RACE")
		})
	})
	assert.Contains(t, string(rerun(t, "no handler")), "hooktest: TestReceiver of a nil handler")
	assert.Contains(t, string(rerun(t, "no Sign")), "hooktest: the Sender has no Sign")
}

// rerun runs TestReceiverFails with a fault and returns its output. It must
// fail.
func rerun(t *testing.T, fault string) []byte {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestReceiverFails$", "-test.v", "-test.short")
	cmd.Env = append(os.Environ(), faultVariable+"="+fault)
	out, err := cmd.CombinedOutput()
	_, failed := errors.AsType[*exec.ExitError](err)
	require.True(t, failed, "%v\n%s", err, out)
	return out
}
