package main

import (
	"bytes"
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

// pair is a key of a sender: what the receiver is given of it, and how the
// sender signs.
type pair struct {
	text []byte
	sign func(body []byte) (string, error)
}

// kind is one of the three algorithms, with three keys.
type kind struct {
	contract middleware.Contract
	header   string
	pairs    [3]pair
	broken   []byte // a text that is no key
	keep     func(context.Context, *keeper) (middleware.Verifier, error)
}

// kinds makes new keys, once.
var kinds = sync.OnceValue(func() map[string]*kind {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	h := &kind{
		contract: middleware.Haptik(), header: hmac.Haptik().Header, broken: []byte("two\nlines"),
		keep: func(ctx context.Context, k *keeper) (middleware.Verifier, error) {
			return keepHMAC(ctx, k, hmac.Haptik())
		},
	}
	for i := range h.pairs {
		secret := []byte(rand.Text())
		h.pairs[i] = pair{secret, func(body []byte) (string, error) { return hmac.Sign(hmac.Haptik(), secret, body) }}
	}

	r := &kind{
		contract: middleware.SalesIQ(), header: rsasig.SalesIQ().Header,
		keep: func(ctx context.Context, k *keeper) (middleware.Verifier, error) {
			return keepRSA(ctx, k, rsasig.SalesIQ())
		},
	}
	for i := range r.pairs {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		must(err)
		der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
		must(err)
		r.pairs[i] = pair{
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			func(body []byte) (string, error) { return rsasig.Sign(rsasig.SalesIQ(), private, body) },
		}
	}
	r.broken = r.pairs[2].text[:200]

	d := &kind{
		contract: middleware.ConvoKraft(), header: dsasig.ConvoKraft().Header,
		keep: func(ctx context.Context, k *keeper) (middleware.Verifier, error) {
			return keepDSA(ctx, k, dsasig.ConvoKraft())
		},
	}
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	must(err)
	other, err := dsasig.ParsePublicKey(text) // its p, q and g: new ones take seconds to find
	must(err)
	for i := range d.pairs {
		private := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: other.Parameters}}
		must(dsa.GenerateKey(private, rand.Reader))
		der, err := marshalDSA(&private.PublicKey)
		must(err)
		d.pairs[i] = pair{
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			func(body []byte) (string, error) { return dsasig.Sign(dsasig.ConvoKraft(), private, body) },
		}
	}
	d.broken = d.pairs[2].text[:200]
	return map[string]*kind{"HMAC": h, "RSA": r, "DSA": d}
})

// logBook is a log that is read while it is written.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) count(what string) int { return strings.Count(l.String(), what) }

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

const (
	sayFailing = "keys cannot be changed"
	sayGood    = "keys can be read again"
	sayInUse   = "keys in use"
	saySame    = "keys have not changed"
)

// assertKeepsSecrets fails if the log has a key in it, or a line or a good part
// of one.
func assertKeepsSecrets(t *testing.T, log string, texts ...[]byte) {
	t.Helper()
	for _, text := range texts {
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if len(line) < 16 || strings.HasPrefix(line, "---") {
				continue
			}
			for at := 0; at+16 <= len(line); at++ {
				if strings.Contains(log, line[at:at+16]) {
					t.Fatalf("the log has a part of a key:\n%s", log)
				}
			}
			sum := sha256.Sum256([]byte(line))
			assert.NotContains(t, log, hex.EncodeToString(sum[:8]), "a fingerprint of a secret")
		}
	}
}

func (k *kind) texts() (all [][]byte) {
	for _, p := range k.pairs {
		all = append(all, p.text)
	}
	return append(all, k.broken)
}

// judge delivers a body signed with each of the pairs and returns the index of
// the key that matched, or -1 if it was refused.
func (k *kind) judge(t *testing.T, v middleware.Verifier) (keys [3]int) {
	t.Helper()
	for i, p := range k.pairs {
		keys[i] = -1
		guard := &middleware.Guard{Verifier: v, Contract: k.contract, Observe: func(*http.Request, middleware.Result) {}}
		h := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			d, _ := middleware.FromContext(r.Context())
			keys[i] = d.Key
		}))
		body := fmt.Sprintf(`{"n":%d}`, i)
		value, err := p.sign([]byte(body))
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set(k.header, value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if keys[i] < 0 {
			assert.Equal(t, http.StatusUnauthorized, w.Code)
		} else {
			assert.Equal(t, http.StatusOK, w.Code)
		}
	}
	return keys
}

// put replaces a file as it should be done.
func put(t *testing.T, path string, text []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", text, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// TestRotation is a rotation from files, through a Guard, with a mistake in it.
func TestRotation(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				current, previous := filepath.Join(dir, "current"), filepath.Join(dir, "previous")
				put(t, current, kind.pairs[0].text)
				log := new(logBook)
				k := &keeper{
					sender: kind.contract.Sender, log: log.logger(), every: 5 * time.Second, slowest: 5 * time.Second,
					source: &files{current: current, previous: previous, settle: time.Second},
				}
				v, err := kind.keep(t.Context(), k)
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { k.run(ctx, nil) })
				wait := func(d time.Duration) {
					t.Helper()
					time.Sleep(d)
					synctest.Wait()
				}

				assert.Equal(t, [3]int{0, -1, -1}, kind.judge(t, v))
				wait(time.Minute)
				assert.Equal(t, 1, log.count(sayInUse), "nothing has changed")

				put(t, previous, kind.pairs[0].text)
				put(t, current, kind.pairs[1].text)
				wait(10 * time.Second)
				assert.Equal(t, [3]int{1, 0, -1}, kind.judge(t, v), "the rotation has begun")
				assert.Equal(t, 2, log.count(sayInUse))
				assert.Contains(t, log.String(), ", new")
				assert.Contains(t, log.String(), ", was key 0")

				put(t, current, kind.broken)
				wait(10 * time.Minute)
				assert.Equal(t, [3]int{1, 0, -1}, kind.judge(t, v), "the keys before stay")
				assert.Equal(t, 1, log.count(sayFailing), "told once")

				require.NoError(t, os.Remove(current))
				wait(10 * time.Minute)
				assert.Equal(t, [3]int{1, 0, -1}, kind.judge(t, v))
				assert.Equal(t, 2, log.count(sayFailing), "another reason is told, too")

				put(t, current, kind.pairs[1].text)
				wait(time.Minute)
				assert.Equal(t, 1, log.count(sayGood))
				assert.Equal(t, 2, log.count(sayInUse), "they are the same as before")

				put(t, current, kind.pairs[2].text)
				require.NoError(t, os.WriteFile(previous, nil, 0o600))
				wait(10 * time.Second)
				assert.Equal(t, [3]int{-1, -1, 0}, kind.judge(t, v), "both old keys are gone")
				assert.Equal(t, 3, log.count(sayInUse))
				assert.Equal(t, 2, log.count(sayFailing))

				cancel()
				wg.Wait()
				assertKeepsSecrets(t, log.String(), kind.texts()...)
				assert.NotContains(t, log.String(), dir)
			})
		})
	}
}

// fake is a source in memory.
type fake struct {
	mu    sync.Mutex
	texts [][]byte
	err   error
	looks []time.Time
}

func (f *fake) Load(context.Context) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks = append(f.looks, time.Now())
	return f.texts, f.err
}

func (f *fake) become(err error, texts ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.texts = err, texts
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBook)
		src := &fake{texts: [][]byte{[]byte("secret")}}
		k := &keeper{sender: "haptik", source: src, every: time.Minute, slowest: 8 * time.Minute, log: log.logger()}
		_, err := keepHMAC(t.Context(), k, hmac.Haptik())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.run(ctx, nil) })

		time.Sleep(150 * time.Second) // two looks
		src.become(errors.New("away"))
		time.Sleep(2 * time.Hour)
		src.become(nil, []byte("secret"))
		time.Sleep(20 * time.Minute)
		cancel()
		wg.Wait()

		near := func(want time.Duration, got time.Duration, i int) {
			t.Helper()
			assert.InDelta(t, want.Seconds(), got.Seconds(), want.Seconds()/10, "pause %d", i)
		}
		var pauses []time.Duration
		for i := range src.looks[1:] {
			pauses = append(pauses, src.looks[i+1].Sub(src.looks[i]))
		}
		for i, want := range []time.Duration{1, 1, 1, 2, 4, 8, 8, 8} {
			near(want*time.Minute, pauses[i], i)
		}
		near(time.Minute, pauses[len(pauses)-1], len(pauses)-1)
		different := make(map[time.Duration]bool)
		for _, p := range pauses {
			different[p] = true
		}
		assert.Greater(t, len(different), len(pauses)/2, "jitter")
		assert.Equal(t, 1, log.count(sayFailing))
		assert.Equal(t, 1, log.count(sayGood))
		assert.Equal(t, 1, log.count(sayInUse))
	})
}

func TestAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBook)
		src := &fake{texts: [][]byte{[]byte("first")}}
		k := &keeper{sender: "haptik", source: src, every: time.Hour, slowest: time.Hour, log: log.logger()}
		_, err := keepHMAC(t.Context(), k, hmac.Haptik())
		require.NoError(t, err)
		asked := make(chan os.Signal)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.run(ctx, asked) })
		ask := func() {
			asked <- os.Interrupt
			synctest.Wait()
		}
		ask()
		assert.Equal(t, 1, log.count(saySame))
		src.become(errors.New("away"))
		ask()
		ask()
		assert.Equal(t, 2, log.count(sayFailing), "who asks is answered")
		src.become(nil, []byte("second"))
		ask()
		assert.Equal(t, 2, log.count(sayInUse))
		cancel()
		wg.Wait()
		assertKeepsSecrets(t, log.String(), []byte("first"), []byte("second"))
	})
}

// TestSetOnlyOnChange counts the calls of SetKeys.
func TestSetOnlyOnChange(t *testing.T) {
	calls := 0
	a := &algorithm[[]byte]{
		parse: parseSecret,
		id:    func(s []byte) ([]byte, error) { return s, nil },
		show:  func([]byte) (string, error) { return "secret", nil },
		set:   func(...[]byte) error { calls++; return nil },
	}
	apply := func(texts ...string) []string {
		t.Helper()
		var list [][]byte
		for _, text := range texts {
			list = append(list, []byte(text))
		}
		inUse, err := a.apply(list)
		require.NoError(t, err)
		return inUse
	}
	assert.Equal(t, []string{"secret, new"}, apply("a"))
	assert.Nil(t, apply("a"))
	assert.Nil(t, apply("a\n"), "written otherwise")
	assert.Nil(t, apply("a", "a"), "given twice")
	assert.Equal(t, 1, calls)
	assert.Equal(t, []string{"secret, new", "secret, was key 0"}, apply("b", "a"))
	assert.Equal(t, []string{"secret, was key 1", "secret, was key 0"}, apply("a", "b"), "the order counts")
	assert.Equal(t, []string{"secret, as before"}, apply("a"))
	assert.Equal(t, 4, calls)

	a.set = func(...[]byte) error { return errors.New("refused") }
	_, err := a.apply([][]byte{[]byte("c")})
	require.Error(t, err)
	assert.Nil(t, apply("a"), "what was refused is not in use")
	_, err = a.apply(nil)
	require.Error(t, err)
}

func TestStartWithoutKeys(t *testing.T) {
	for name, src := range map[string]*fake{
		"none":     {},
		"away":     {err: errors.New("away")},
		"empty":    {texts: [][]byte{[]byte("\n")}},
		"previous": {texts: [][]byte{[]byte("good enough"), []byte("two\nlines")}},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(logBook)
			_, err := keepHMAC(t.Context(), &keeper{sender: "haptik", source: src, log: log.logger()}, hmac.Haptik())
			require.ErrorContains(t, err, "keys of haptik: ")
			assert.NotContains(t, err.Error(), "good enough")
			assert.Empty(t, log.String())
		})
	}
}

// TestWeakKeyKeepsTheOld is about a key that parses and that SetKeys refuses.
func TestWeakKeyKeepsTheOld(t *testing.T) {
	kind := kinds()["RSA"]
	weak, err := testdata.PublicKey("rsa1024-java-a")
	require.NoError(t, err)
	log := new(logBook)
	src := &fake{texts: [][]byte{kind.pairs[0].text}}
	k := &keeper{sender: "salesiq", source: src, log: log.logger()}
	v, err := kind.keep(t.Context(), k)
	require.NoError(t, err)
	src.become(nil, weak)
	k.look(t.Context(), false)
	k.look(t.Context(), false)
	assert.Equal(t, 1, log.count(sayFailing), log.String())
	assert.Equal(t, [3]int{0, -1, -1}, kind.judge(t, v))
	assertKeepsSecrets(t, log.String(), kind.pairs[0].text, weak)
}

// TestFingerprints compares with the DER that OpenSSL and Java wrote.
func TestFingerprints(t *testing.T) {
	want := func(text []byte) string {
		block, _ := pem.Decode(text)
		require.NotNil(t, block)
		sum := sha256.Sum256(block.Bytes)
		return hex.EncodeToString(sum[:8])
	}
	for _, name := range []string{"dsa1024-160-openssl", "dsa2048-256-java-a", "dsa3072-256-openssl"} {
		text, err := testdata.PublicKey(name)
		require.NoError(t, err)
		log := new(logBook)
		_, err = keepDSA(t.Context(), &keeper{source: &fake{texts: [][]byte{text}}, log: log.logger()}, dsasig.ConvoKraft())
		require.NoError(t, err)
		assert.Contains(t, log.String(), want(text))
	}
	for _, name := range []string{"rsa2048-openssl", "rsa3072-java-a"} {
		text, err := testdata.PublicKey(name)
		require.NoError(t, err)
		log := new(logBook)
		_, err = keepRSA(t.Context(), &keeper{source: &fake{texts: [][]byte{text}}, log: log.logger()}, rsasig.SalesIQ())
		require.NoError(t, err)
		assert.Contains(t, log.String(), want(text))
	}
}
