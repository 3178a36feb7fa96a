package main

import (
	"crypto"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

// vectorHeader carries the signature of every case of testdata.
const vectorHeader = "X-Vector-Signature"

// vectors are the deliveries that other implementations have signed.
type vectors struct {
	requests []*request
	unsent   map[string]int // cases that HTTP cannot carry, by why
}

func (v *vectors) total() int {
	n := len(v.requests)
	for _, count := range v.unsent {
		n += count
	}
	return n
}

// verifierID is what of a case decides which Verifier it needs.
type verifierID struct{ kind, hash, encoding, format, prefix, secret, key string }

// newVectors turns cases into requests, and mounts a Guard on mux for every
// combination of scheme and key that they need.
func newVectors(cases []testdata.Case, mux *http.ServeMux, app http.Handler, observe func(*http.Request, middleware.Result)) (*vectors, error) {
	v := &vectors{unsent: make(map[string]int)}
	paths := make(map[verifierID]string)
	var needed []testdata.Case // one per path
	for _, c := range cases {
		if why := unfitForHTTP(c.Value); why != "" {
			v.unsent[why]++
			continue
		}
		id := verifierID{c.Kind, c.Hash, c.Encoding, c.Format, c.Prefix, string(c.Secret), c.Key}
		path, known := paths[id]
		if !known {
			path = fmt.Sprintf("/vectors/%d", len(paths))
			paths[id] = path
			needed = append(needed, c)
		}
		r, err := vectorRequest(c, path)
		if err != nil {
			return nil, err
		}
		v.requests = append(v.requests, r)
	}
	verifiers, err := vectorVerifiers(needed)
	if err != nil {
		return nil, err
	}
	for i, verifier := range verifiers {
		guard := &middleware.Guard{Verifier: verifier, Contract: middleware.Contract{Sender: "vectors"}, Observe: observe}
		mux.Handle(fmt.Sprintf("/vectors/%d", i), guard.Handler(app))
	}
	return v, nil
}

// unfitForHTTP says why value would not arrive as it is in a header over HTTP,
// or returns "".
func unfitForHTTP(value string) string {
	switch {
	case strings.ContainsAny(value, "\r\n"):
		return "a line break in the value, which ends a header of HTTP"
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "a control character in the value, which net/http does not send"
	case strings.Trim(value, " \t") != value:
		return "blanks around the value, which HTTP takes off"
	}
	return ""
}

func vectorRequest(c testdata.Case, path string) (*request, error) {
	body, err := c.BodyBytes()
	if err != nil {
		return nil, err
	}
	want, known := map[string]verdict{
		"ok":        acceptedWith(0),
		"malformed": {status: http.StatusUnauthorized, err: hmac.ErrMalformed}, // the same value in all three packages
		"mismatch":  {status: http.StatusUnauthorized, err: hmac.ErrMismatch},
	}[c.Want]
	if !known {
		return nil, fmt.Errorf("case %q wants %q", c.Name, c.Want)
	}
	return &request{
		group:  vectorGroup(c),
		what:   c.Name,
		method: http.MethodPost,
		path:   path,
		header: http.Header{vectorHeader: {c.Value}},
		body:   body,
		want:   want,
	}, nil
}

// vectorGroup returns c's row in the report, its columns separated by tabs.
func vectorGroup(c testdata.Case) string {
	source, known := map[string]string{
		"java17": "Java 17", "openssl3": "OpenSSL 3", "python3": "Python 3", "published": "published examples",
	}[c.Source]
	if !known {
		source = c.Source
	}
	deliveries := "tampered"
	if c.Want == "ok" {
		deliveries = "genuine"
	}
	return source + "\t" + strings.ToUpper(c.Kind) + "\t" + deliveries
}

// vectorVerifiers returns the Verifier of each case. It works on several at a
// time, since the check of a DSA key takes some tens of milliseconds.
func vectorVerifiers(cases []testdata.Case) ([]middleware.Verifier, error) {
	verifiers := make([]middleware.Verifier, len(cases))
	errs := make([]error, len(cases))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	for i, c := range cases {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			verifiers[i], errs[i] = vectorVerifier(c)
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", cases[i].Name, err)
		}
	}
	return verifiers, nil
}

func vectorVerifier(c testdata.Case) (middleware.Verifier, error) {
	hash, known := map[string]crypto.Hash{
		"SHA1": crypto.SHA1, "SHA224": crypto.SHA224, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
	}[c.Hash]
	if !known {
		return nil, fmt.Errorf("unknown hash %q", c.Hash)
	}
	base64 := c.Encoding == "base64"
	if !base64 && c.Encoding != "hex" {
		return nil, fmt.Errorf("unknown encoding %q", c.Encoding)
	}
	switch c.Kind {
	case "hmac":
		s := hmac.Scheme{Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: hmac.Hex}
		if base64 {
			s.Encoding = hmac.Base64
		}
		return hmac.New(s, c.Secret)
	case "rsa":
		// MinBits: some of the keys have 1024 bits.
		s := rsasig.Scheme{Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: rsasig.Hex, MinBits: 1024}
		if base64 {
			s.Encoding = rsasig.Base64
		}
		text, err := testdata.PublicKey(c.Key)
		if err != nil {
			return nil, err
		}
		key, err := rsasig.ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		return rsasig.New(s, key)
	case "dsa":
		s := dsasig.Scheme{Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: dsasig.Hex, Format: dsasig.DER}
		if base64 {
			s.Encoding = dsasig.Base64
		}
		switch c.Format {
		case "der":
		case "p1363":
			s.Format = dsasig.P1363
		default:
			return nil, fmt.Errorf("unknown format %q", c.Format)
		}
		text, err := testdata.PublicKey(c.Key)
		if err != nil {
			return nil, err
		}
		key, err := dsasig.ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		return dsasig.New(s, key)
	}
	return nil, fmt.Errorf("unknown kind %q", c.Kind)
}
