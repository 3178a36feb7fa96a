package middleware

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Delivery is a verified request, fit for JSON and for a queue. Its Body and
// Header are its own: nothing else changes or reuses them.
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
func (d *Delivery) ID() string {
	h := sha256.New()
	// The length keeps ("a", "bc") and ("ab", "c") apart.
	fmt.Fprintf(h, "%d:", len(d.Sender))
	io.WriteString(h, d.Sender)
	h.Write(d.Body)
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
// to. It reports false if no Guard verified that request, and then what the
// request says must not be trusted.
func FromContext(ctx context.Context) (*Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}
