// Package hooktest plays the sender of webhooks against a receiver, in tests.
// It is to receivers what testing/slogtest is to handlers of log/slog.
//
// A [Sender] signs and delivers as the real one would, with its deadline and
// its retries:
//
//	sender := &hooktest.Sender{
//		Contract: middleware.Haptik(),
//		Header:   hmac.Haptik().Header,
//		Sign: func(body []byte) (string, error) {
//			return hmac.Sign(hmac.Haptik(), secret, body)
//		},
//	}
//	report, err := sender.Deliver(ctx, url, body)
//
// [TestReceiver] tests everything that a receiver owes to its sender and to
// itself, forgeries among it:
//
//	func TestHooks(t *testing.T) {
//		hooktest.TestReceiver(t, newReceiver(), sender, body)
//	}
package hooktest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// Sender plays a sender: it signs, delivers, and holds the receiver to the
// contract. Fill it in and then do not change it. Its methods may be called
// concurrently if the functions in it may.
type Sender struct {
	// Contract is what the sender expects of the receiver.
	Contract middleware.Contract

	// Header is the name of the header that carries the signature. Required.
	Header string

	// Sign returns the value of Header for body, which it must not change or
	// keep. Required.
	Sign func(body []byte) (value string, err error)

	// Client carries Deliver's requests: its Transport is used, or
	// http.DefaultTransport if that is nil, and nothing else of it. If Client
	// is nil, each Deliver makes connections of its own, without a proxy, and
	// closes them.
	Client *http.Client

	// Wait is called by Deliver before each attempt but the first. It must
	// return an error, preferably ctx's, if ctx ends before d is over. If
	// nil, Deliver really waits.
	Wait func(ctx context.Context, d time.Duration) error

	// The rest tells TestReceiver more about the receiver. It is optional,
	// and Deliver makes no use of it.

	// Stranger signs as Sign does, with a key that the receiver does not
	// have. If nil, "another key" is not tested.
	Stranger func(body []byte) (value string, err error)

	// Effects returns the number of deliveries that the receiver has worked
	// on so far, whatever that work is. With it TestReceiver sees that a
	// genuine delivery has an effect and a refused one has none; without it,
	// it sees answers only. It is called while the receiver runs. The effect
	// may follow the answer, by Contract.Deadline at the most (10 s if that
	// is 0).
	Effects func() int

	// Once says that the receiver promises to work on a retry no second
	// time, as a middleware.Guard with a Store does. It needs Effects, and
	// bodies that the receiver has not seen before.
	Once bool

	// Server, if not nil, changes the settings of the server that TestReceiver
	// runs the receiver in, for a receiver that relies on some, such as
	// ReadTimeout. Handler and ErrorLog are already set.
	Server func(*http.Server)
}

// ready returns an error if s cannot sign.
func (s *Sender) ready() error {
	switch {
	case s == nil:
		return errors.New("hooktest: the Sender is nil")
	case s.Sign == nil:
		return errors.New("hooktest: the Sender has no Sign")
	case s.Header == "":
		return errors.New("hooktest: the Sender has no Header")
	case strings.ContainsFunc(s.Header, func(r rune) bool { return !isToken(r) }):
		return fmt.Errorf("hooktest: the Sender's Header %q is not a header name", s.Header)
	case s.Once && s.Effects == nil:
		return errors.New("hooktest: the Sender has Once, and no Effects to see it by")
	}
	return nil
}

// isToken reports whether r may stand in a header name: RFC 9110, section 5.6.2.
func isToken(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// value returns what sign makes of body, if a header can hold it.
func value(sign func([]byte) (string, error), body []byte) (string, error) {
	v, err := sign(body)
	switch {
	case err != nil:
		return "", fmt.Errorf("hooktest: signing: %w", err)
	case strings.TrimSpace(v) == "":
		return "", errors.New("hooktest: signing: the value is empty")
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", errors.New("hooktest: signing: the value has a character that no header can hold")
	}
	return v, nil
}
