package main

import (
	"bytes"
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
	"github.com/hooktrust/hooktrust/testdata"
)

const execute = `{"todo":"execute","bot":"leave","action":"enter_leave","environment":"production","params":{"leave_type":"sick"},` +
	`"userInput":"sick","user":{"id":17,"email":"zoe@example.com"},"org":{},"broadcast":{},"cache":{},"sessionData":{"medium":"chat"},"clientData":{}}`

// keyPairs are ConvoKraft's: the current one, the previous one, and one that
// is not ConvoKraft's.
var keyPairs = sync.OnceValue(func() (pairs [3]*dsa.PrivateKey) {
	// p, q and g are taken from another public key, since new ones take
	// seconds to find. They are no secret, and keys may share them.
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	if err != nil {
		panic(err)
	}
	other, err := dsasig.ParsePublicKey(text)
	if err != nil {
		panic(err)
	}
	for i := range pairs {
		key := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: other.Parameters}}
		if err := dsa.GenerateKey(key, rand.Reader); err != nil {
			panic(err)
		}
		pairs[i] = key
	}
	return pairs
})

const (
	current = iota
	previous
	stranger
)

// sign returns what signs with one of the key pairs.
func sign(pair int) func([]byte) (string, error) { return signAs(dsasig.ConvoKraft(), pair) }

func signAs(s dsasig.Scheme, pair int) func([]byte) (string, error) {
	key := keyPairs()[pair]
	return func(body []byte) (string, error) { return dsasig.Sign(s, key, body) }
}

// sender plays ConvoKraft.
func sender(pair int) *hooktest.Sender {
	return &hooktest.Sender{
		Contract: middleware.ConvoKraft(),
		Header:   dsasig.ConvoKraft().Header,
		Sign:     sign(pair),
		Stranger: sign(stranger),
	}
}

// publicKey returns a SubjectPublicKeyInfo: RFC 3279, section 2.3.2.
func publicKey(t *testing.T, pair int) []byte {
	t.Helper()
	key := keyPairs()[pair].PublicKey
	parameters, err := asn1.Marshal(struct{ P, Q, G *big.Int }{key.P, key.Q, key.G})
	require.NoError(t, err)
	y, err := asn1.Marshal(key.Y)
	require.NoError(t, err)
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1},
			Parameters: asn1.RawValue{FullBytes: parameters},
		},
		asn1.BitString{Bytes: y, BitLength: 8 * len(y)},
	})
	require.NoError(t, err)
	return der
}

func asBase64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

func asPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// environment has both keys.
func environment(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"CONVOKRAFT_PUBLIC_KEY":          asPEM(publicKey(t, current)),
		"CONVOKRAFT_PUBLIC_KEY_PREVIOUS": asBase64(publicKey(t, previous)),
	}
}

func getenv(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

// verifier has both keys. It is made once: checking a key takes time.
var verifier = sync.OnceValue(func() *dsasig.Verifier {
	pairs := keyPairs()
	v, err := dsasig.New(dsasig.ConvoKraft(), &pairs[current].PublicKey, &pairs[previous].PublicKey)
	if err != nil {
		panic(err)
	}
	return v
})

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// pipes is a listener for net.Pipe, so that a real http.Server runs on the
// false clock of testing/synctest.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) client(t *testing.T) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case p.conns <- server:
			return client, nil
		case <-p.done:
			return nil, errors.New("the server does not listen any more")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// served serves b on pipes until stop is called, which returns what serve
// returns.
func served(t *testing.T, b *bot, l *logs) (s *hooktest.Sender, stop func() error) {
	t.Helper()
	b.log = l.logger()
	receiver, guard := newReceiver(verifier(), b, b.log)
	p := newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, p, newServer(receiver, b.log), guard) }()
	s = sender(current)
	s.Client = p.client(t)
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

// deliver returns what became of a delivery: one attempt, as ConvoKraft does not
// retry.
func deliver(t *testing.T, s *hooktest.Sender, url, body string) hooktest.Attempt {
	t.Helper()
	return delivering(t, s, url, body)()
}

// delivering starts a delivery. What it returns waits for the end of it.
func delivering(t *testing.T, s *hooktest.Sender, url, body string) func() hooktest.Attempt {
	t.Helper()
	var report *hooktest.Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = s.Deliver(t.Context(), url, []byte(body))
	}()
	return func() hooktest.Attempt {
		t.Helper()
		<-done
		require.NoError(t, err)
		require.Len(t, report.Attempts, 1)
		return report.Attempts[0]
	}
}
