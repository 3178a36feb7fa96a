package middleware

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Delivery is a verified request, fit for JSON and for a queue. Its Body and
// Header are its own: the Guard neither changes nor reuses them, and Header is a
// copy, made when the Delivery is first asked for.
//
// Only Body is signed. Header is what came with it, and an attacker who can
// replay a delivery can change it.
//
// fmt and log/slog show neither Body nor Header of a Delivery; encoding/json
// writes all of it.
type Delivery struct {
	Sender     string      // Contract.Sender
	Body       []byte      // the bytes that the signature was made over
	Header     http.Header // the request's, with the signature still in it
	Key        int         // index of the key that matched, or -1 if the Verifier does not tell
	ReceivedAt time.Time   // when the request arrived
}

// ID returns 64 hex digits that are the same for every retry of a delivery and
// for no other delivery of the sender: the SHA-256 of sender and body. No
// sender signs an id of its own, and the bytes of a DSA signature differ from
// retry to retry.
// Two deliveries with equal bodies have the same ID.
func (d *Delivery) ID() string { return deliveryID(d.Sender, d.Body) }

func deliveryID(sender string, body []byte) string {
	h := sha256.New()
	// The length keeps ("a", "bc") and ("ab", "c") apart.
	fmt.Fprintf(h, "%d:%s", len(sender), sender)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Format implements [fmt.Formatter], so that no verb shows Body or Header.
func (d Delivery) Format(s fmt.State, verb rune) {
	fmt.Fprintf(s, "middleware.Delivery(%s, %d bytes, key %d, %s)",
		d.Sender, len(d.Body), d.Key, d.ReceivedAt.Format(time.RFC3339Nano))
}

// LogValue implements [slog.LogValuer], so that no log shows Body or Header.
func (d Delivery) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("sender", d.Sender),
		slog.Int("size", len(d.Body)),
		slog.Int("key", d.Key),
		slog.Time("received_at", d.ReceivedAt),
	)
}

type deliveryKey struct{}

// FromContext returns the verified delivery of the request that ctx belongs
// to, each time the same one. It reports false if no Guard verified that
// request, and then what the request says must not be trusted.
func FromContext(ctx context.Context) (*Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}

// received is a verified request, and what a Delivery is made of if anybody
// asks for it. The Delivery holds no pointer to it, or a queue would keep
// requests and connections alive.
type received struct {
	guard   *Guard
	clock   *clock
	request *http.Request // as it came
	body    []byte
	reader  bytes.Reader // for the handler's Request.Body
	key     int
	at      time.Time

	mu       sync.Mutex
	delivery *Delivery // nil until somebody asks
	err      error     // what went wrong besides the handler
}

// get returns the Delivery. If it is the first to ask, the Delivery gets a copy
// of header, which must not change meanwhile.
func (c *received) get(header http.Header) *Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.delivery == nil {
		c.delivery = c.guard.delivery(c.body, header, c.key, c.at)
	}
	return c.delivery
}

func (g *Guard) delivery(body []byte, header http.Header, key int, at time.Time) *Delivery {
	return &Delivery{Sender: g.Contract.Sender, Body: body, Header: header.Clone(), Key: key, ReceivedAt: at}
}

// note adds err to what Observe is told.
func (c *received) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, err)
}

// result returns what is known of the request already.
func (c *received) result(outcome Outcome, err error) Result {
	return Result{Outcome: outcome, Sender: c.guard.Contract.Sender, Key: c.key, Size: len(c.body), Err: err}
}

// tell completes res and tells Observe.
func (c *received) tell(r *http.Request, res Result) {
	c.mu.Lock()
	if c.err != nil {
		res.Err = errors.Join(res.Err, c.err)
	}
	c.mu.Unlock()
	res.Elapsed = time.Since(c.at)
	c.guard.observe(r, res)
}

// verifiedRequest returns the request for a handler, with ctx and with the
// verified bytes as its body.
func (c *received) verifiedRequest(ctx context.Context) *http.Request {
	r := c.request.WithContext(ctx)
	c.reader.Reset(c.body)
	setBody(r, (*verifiedBody)(&c.reader), len(c.body))
	return r
}

// setBody gives r verified bytes, size of them, as its body.
func setBody(r *http.Request, body io.ReadCloser, size int) {
	r.Body = body
	r.ContentLength = int64(size)
	r.TransferEncoding = nil
}

// verifiedBody is a bytes.Reader that can be closed.
type verifiedBody bytes.Reader

func (b *verifiedBody) Read(p []byte) (int, error)         { return (*bytes.Reader)(b).Read(p) }
func (b *verifiedBody) WriteTo(w io.Writer) (int64, error) { return (*bytes.Reader)(b).WriteTo(w) }
func (b *verifiedBody) Close() error                       { return nil }
