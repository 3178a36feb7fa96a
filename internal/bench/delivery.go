package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const secret = "a secret for benchmarks"

// body is what is delivered: 1 KiB of JSON, in which no field means anything
// to any of the libraries. All its x may be changed.
var body = func() []byte {
	const format = `{"id":"0123456789","destination":"bench","events":[],"text":"%s"}`
	text := strings.Repeat("x", 1<<10-len(format)+len("%s"))
	return fmt.Appendf(nil, format, text)
}()

// receiver is a way to verify deliveries.
type receiver struct {
	name string

	// sign returns the header that comes with a genuine delivery of body.
	sign func(secret string, body []byte) (http.Header, error)

	// Either verify or receive is set.
	verify  func(body []byte, header http.Header) error
	receive func(http.ResponseWriter, *http.Request) error
}

// side returns the side of a row that measures r.
func (r receiver) side() *side {
	return &side{name: r.name, check: r.check, loop: r.loop}
}

// check delivers once what must be accepted and what must be refused.
func (r receiver) check() error {
	genuine, err := r.sign(secret, body)
	if err != nil {
		return err
	}
	forged, err := r.sign("another secret", body)
	if err != nil {
		return err
	}
	if err := r.once(body, genuine); err != nil {
		return fmt.Errorf("refuses a genuine delivery: %w", err)
	}
	for _, i := range []int{bytes.IndexByte(body, 'x'), bytes.LastIndexByte(body, 'x')} {
		tampered := bytes.Clone(body)
		tampered[i] = 'y'
		if !json.Valid(tampered) {
			return errors.New("the tampered body would be refused for its form")
		}
		if r.once(tampered, genuine) == nil {
			return fmt.Errorf("accepts a body of which byte %d was changed", i)
		}
	}
	if r.once(body, forged) == nil {
		return errors.New("accepts a signature by another secret")
	}
	if r.once(body, http.Header{}) == nil {
		return errors.New("accepts an unsigned delivery")
	}
	return nil
}

func (r receiver) once(body []byte, header http.Header) error {
	if r.verify != nil {
		return r.verify(body, header)
	}
	request, _ := request(body, header)
	return r.receive(nothing{make(http.Header)}, request)
}

func (r receiver) loop(b *testing.B) error {
	header, err := r.sign(secret, body)
	if err != nil {
		return err
	}
	if r.verify != nil {
		for b.Loop() {
			if err := r.verify(body, header); err != nil {
				return err
			}
		}
		return nil
	}
	request, rewind := request(body, header)
	w := nothing{make(http.Header)}
	for b.Loop() {
		rewind()
		if err := r.receive(w, request); err != nil {
			return err
		}
	}
	return nil
}

// request returns a delivery as a server would have it, and what makes it
// ready to be received again.
func request(body []byte, signature http.Header) (r *http.Request, rewind func()) {
	reader := bytes.NewReader(body)
	sent := rewindable{reader}
	r = &http.Request{
		Method:        http.MethodPost,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        signature.Clone(),
		Body:          sent,
		ContentLength: int64(len(body)),
		Host:          "localhost",
		RequestURI:    "/",
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "sender")
	r.Header.Set("X-GitHub-Event", "ping")
	return r, func() {
		_, _ = reader.Seek(0, io.SeekStart)
		r.Body = sent
	}
}

type rewindable struct{ *bytes.Reader }

func (rewindable) Close() error { return nil }

// nothing is a handler and a ResponseWriter that cost nothing.
type nothing struct{ header http.Header }

func (nothing) ServeHTTP(http.ResponseWriter, *http.Request) {}
func (n nothing) Header() http.Header                        { return n.header }
func (nothing) Write(p []byte) (int, error)                  { return len(p), nil }
func (nothing) WriteHeader(int)                              {}

// handler returns a receiver's receive for what wraps a handler.
func handler(wrap func(http.Handler) http.Handler) func(http.ResponseWriter, *http.Request) error {
	ran := false
	h := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true }))
	return func(w http.ResponseWriter, r *http.Request) error {
		ran = false
		h.ServeHTTP(w, r)
		if !ran {
			return errors.New("the handler did not run")
		}
		return nil
	}
}

// signHMAC returns the sign of a hooktrust scheme.
func signHMAC(s hmac.Scheme) func(string, []byte) (http.Header, error) {
	return func(secret string, body []byte) (http.Header, error) {
		value, err := hmac.Sign(s, []byte(secret), body)
		if err != nil {
			return nil, err
		}
		header := make(http.Header)
		header.Set(s.Header, value)
		return header, nil
	}
}

// hmacVerify returns the receiver that is hooktrust's Verifier for s.
func hmacVerify(s hmac.Scheme) (receiver, error) {
	v, err := hmac.New(s, []byte(secret))
	if err != nil {
		return receiver{}, err
	}
	return receiver{name: "hmac.Verify", sign: signHMAC(s), verify: v.Verify}, nil
}

// guardCheck returns the receiver that is Guard.Check for s, and after it
// then, if it is not nil.
func guardCheck(s hmac.Scheme, then func([]byte) error) (receiver, error) {
	guard, err := newGuard(s, 0)
	if err != nil {
		return receiver{}, err
	}
	return receiver{
		name: "Guard.Check",
		sign: signHMAC(s),
		receive: func(w http.ResponseWriter, r *http.Request) error {
			d, err := guard.Check(w, r)
			if err != nil || then == nil {
				return err
			}
			return then(d.Body)
		},
	}, nil
}

func newGuard(s hmac.Scheme, deadline time.Duration) (*middleware.Guard, error) {
	v, err := hmac.New(s, []byte(secret))
	if err != nil {
		return nil, err
	}
	return &middleware.Guard{
		Verifier: v,
		Contract: middleware.Contract{Deadline: deadline},
		Observe:  func(*http.Request, middleware.Result) {},
	}, nil
}
