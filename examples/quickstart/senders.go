package main

import (
	"bytes"
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

// sender plays one of the four senders. It holds what only the sender has in
// life: the keys that sign.
type sender struct {
	name   string
	path   string
	header string
	head   int    // what the contract owes an unsigned HEAD
	body   []byte // has a digit, for tampered to change
	signers
}

// signers are three of a sender's keys: the receiver has the first two.
type signers struct{ current, previous, stranger signer }

// signer makes the header's value for a body.
type signer func(body []byte) (string, error)

// newSenders makes new keys and returns the senders that sign with them and
// what their receiver is to be configured with.
func newSenders() ([]*sender, keys, error) {
	haptik, haptikKeys := hmacSigners(hmac.Haptik())
	compliancely, compliancelyKeys := hmacSigners(hmac.Compliancely())
	salesiq, salesiqKeys, err := rsaSigners(rsasig.SalesIQ())
	if err != nil {
		return nil, keys{}, err
	}
	convokraft, convokraftKeys, err := dsaSigners(dsasig.ConvoKraft())
	if err != nil {
		return nil, keys{}, err
	}
	senders := []*sender{{
		name: "Haptik", path: "/hooks/haptik", header: hmac.Haptik().Header,
		head: http.StatusMethodNotAllowed, signers: haptik,
		body: []byte(`{"version":"1.0","event_name":"webhook_conversation_complete_partial",` +
			`"user":{"user_name":"Zoë O'Neill"},"data":{"conversation_no":4711}}`),
	}, {
		// Compliancely does not document its payload; this one is made up.
		name: "Compliancely", path: "/hooks/compliancely", header: hmac.Compliancely().Header,
		head: http.StatusMethodNotAllowed, signers: compliancely,
		body: []byte(`{"business":"Example Ltd","status":"approved","score":87}`),
	}, {
		name: "SalesIQ", path: "/hooks/salesiq", header: rsasig.SalesIQ().Header,
		head: http.StatusOK, signers: salesiq,
		body: []byte(`{"handler":"message","visitor":{"name":"Ada"},"message":{"text":"Where's order 1203?"}}`),
	}, {
		name: "ConvoKraft", path: "/hooks/convokraft", header: dsasig.ConvoKraft().Header,
		head: http.StatusMethodNotAllowed, signers: convokraft,
		body: []byte(`{"todo":"execute","action":"pay","environment":"development","params":{"amount":"250"}}`),
	}}
	k := keys{haptik: haptikKeys, compliancely: compliancelyKeys, salesiq: salesiqKeys, convokraft: convokraftKeys}
	return senders, k, nil
}

func hmacSigners(s hmac.Scheme) (signers, [][]byte) {
	sign := func(secret []byte) signer {
		return func(body []byte) (string, error) { return hmac.Sign(s, secret, body) }
	}
	current, previous, stranger := []byte(rand.Text()), []byte(rand.Text()), []byte(rand.Text())
	return signers{sign(current), sign(previous), sign(stranger)}, [][]byte{current, previous}
}

func rsaSigners(s rsasig.Scheme) (signers, []*rsa.PublicKey, error) {
	var private [3]*rsa.PrivateKey
	var sign [3]signer
	for i := range private {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return signers{}, nil, err
		}
		private[i] = key
		sign[i] = func(body []byte) (string, error) { return rsasig.Sign(s, key, body) }
	}
	return signers{sign[0], sign[1], sign[2]}, []*rsa.PublicKey{&private[0].PublicKey, &private[1].PublicKey}, nil
}

func dsaSigners(s dsasig.Scheme) (signers, []*dsa.PublicKey, error) {
	// p, q and g are taken from another public key, since new ones take
	// seconds to find. They are no secret, and keys may share them.
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	if err != nil {
		return signers{}, nil, err
	}
	other, err := dsasig.ParsePublicKey(text)
	if err != nil {
		return signers{}, nil, err
	}
	var private [3]*dsa.PrivateKey
	var sign [3]signer
	for i := range private {
		key := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: other.Parameters}}
		if err := dsa.GenerateKey(key, rand.Reader); err != nil {
			return signers{}, nil, err
		}
		private[i] = key
		sign[i] = func(body []byte) (string, error) { return dsasig.Sign(s, key, body) }
	}
	return signers{sign[0], sign[1], sign[2]}, []*dsa.PublicKey{&private[0].PublicKey, &private[1].PublicKey}, nil
}

// currentOnly returns k as it is when the rotation is over.
func (k keys) currentOnly() keys {
	return keys{k.haptik[:1], k.compliancely[:1], k.salesiq[:1], k.convokraft[:1]}
}

// request is a request to send, and how the receiver must judge it.
type request struct {
	group  string // of rows in the report
	what   string
	method string
	path   string
	header http.Header
	body   []byte
	want   verdict
}

// verdict is what the receiver owes a request.
type verdict struct {
	status int
	ran    bool  // the handler ran, once, and got the very bytes that were sent
	key    int   // index of the key that matched, if the handler ran
	err    error // what the error that Observe is told wraps; nil: anything
}

var (
	refused      = verdict{status: http.StatusUnauthorized}
	wrongMethod  = verdict{status: http.StatusMethodNotAllowed}
	acceptedWith = func(key int) verdict { return verdict{status: http.StatusOK, ran: true, key: key} }
)

// duringRotation returns what is sent while the receiver has both keys.
func (s *sender) duringRotation() ([]*request, error) {
	genuine, err1 := s.current(s.body)
	previous, err2 := s.previous(s.body)
	stranger, err3 := s.stranger(s.body)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return []*request{
		s.post("genuine", s.body, acceptedWith(0), genuine),
		s.post("one bit of the body changed", tampered(s.body), refused, genuine),
		s.post("not signed", s.body, refused),
		s.post("signed with another key", s.body, refused, stranger),
		s.post("signature sent twice", s.body, refused, genuine, genuine),
		s.probe(http.MethodHead, verdict{status: s.head}),
		s.probe(http.MethodGet, wrongMethod),
		s.post("previous key, during the rotation", s.body, acceptedWith(1), previous),
	}, nil
}

// afterRotation returns what is sent while the receiver has the current key only.
func (s *sender) afterRotation() ([]*request, error) {
	genuine, err1 := s.current(s.body)
	previous, err2 := s.previous(s.body)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return []*request{
		s.post("previous key, after the rotation", s.body, refused, previous),
		s.post("current key, after the rotation", s.body, acceptedWith(0), genuine),
	}, nil
}

// toTry returns a genuine delivery and a tampered one.
func (s *sender) toTry() ([]*request, error) {
	genuine, err := s.current(s.body)
	if err != nil {
		return nil, err
	}
	return []*request{
		s.post("genuine", s.body, acceptedWith(0), genuine),
		s.post("tampered", tampered(s.body), refused, genuine),
	}, nil
}

// post returns a delivery with the given signatures.
func (s *sender) post(what string, body []byte, want verdict, signatures ...string) *request {
	h := http.Header{"Content-Type": {"application/json"}}
	for _, value := range signatures {
		h.Add(s.header, value)
	}
	return &request{group: s.name, what: what, method: http.MethodPost, path: s.path, header: h, body: body, want: want}
}

func (s *sender) probe(method string, want verdict) *request {
	return &request{group: s.name, what: method + ", not signed", method: method, path: s.path, header: http.Header{}, want: want}
}

// tampered returns body with the lowest bit of its last digit changed, which
// makes 4711 4710.
func tampered(body []byte) []byte {
	changed := slices.Clone(body)
	changed[bytes.LastIndexAny(changed, "0123456789")] ^= 1
	return changed
}

// idHeader tells the requests apart. It is not signed, as no header is.
const idHeader = "Quickstart-Id"

// client sends requests as a sender does: it waits for a while only and
// follows no redirect.
type client struct {
	http http.Client
	base string
}

// newClient returns a client for that many requests at a time.
func newClient(base string, parallel int) *client {
	return &client{base: base, http: http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: parallel}, // and no proxy
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// send returns the answer's status.
func (c *client) send(ctx context.Context, id int, r *request) (int, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return 0, err
	}
	req.Header = r.header.Clone()
	req.Header.Set(idHeader, strconv.Itoa(id))
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return 0, fmt.Errorf("the answer broke off: %w", err)
	}
	return res.StatusCode, nil
}
