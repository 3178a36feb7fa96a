// Package hmac verifies webhook deliveries that are signed with an HMAC over
// the request body: Haptik's (X-Hub-Signature) and Compliancely's
// (Compliancely-Signature), and those of any other sender that a [Scheme] can
// describe.
//
// A signature proves that somebody who knows the secret signed these bytes.
// It does not prove when: neither sender signs a timestamp, so a captured
// delivery verifies for ever. Nothing but the body is signed: not the URL, not
// the other headers.
package hmac

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	stdhmac "crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hooktrust/hooktrust/internal/signature"
)

// Errors that Verify and VerifyKey return, wrapped with what to look at. They
// are the same values in hmac, rsasig and dsasig. No error contains a secret,
// a computed MAC, the header's value or any of the body.
var (
	// ErrMissing: the request has no signature header.
	ErrMissing = signature.ErrMissing
	// ErrMalformed: there is not exactly one signature header value of the
	// form and length that the Scheme prescribes.
	ErrMalformed = signature.ErrMalformed
	// ErrMismatch: the signature was not made over this body with any of the
	// keys.
	ErrMismatch = signature.ErrMismatch
)

// Encoding says how the digest is written in the header.
type Encoding int

const (
	Hex    Encoding = iota // hex digits in either case
	Base64                 // standard alphabet, padded, strict, on one line
)

// Scheme says where a sender puts its signature and how it is computed. It is
// a plain value: take a sender's and change a field, or fill in your own.
type Scheme struct {
	Header         string      // request header that carries the signature
	Prefix         string      // what stands before the encoded digest, such as "sha1="
	PrefixOptional bool        // values without Prefix are accepted too
	Hash           crypto.Hash // SHA1, SHA224, SHA256, SHA384 or SHA512
	Encoding       Encoding
}

// Haptik returns the scheme of Haptik's webhooks: HMAC-SHA1 in hex, after
// "sha1=", in X-Hub-Signature. Source: https://docs.haptik.ai/webhooks/protocols.
// That page does not name the encoding of the digest; hex is what the header's
// other users (WebSub, GitHub, Facebook) send.
func Haptik() Scheme {
	return Scheme{Header: "X-Hub-Signature", Prefix: "sha1=", Hash: crypto.SHA1}
}

// Compliancely returns the scheme of Compliancely's webhooks: HMAC-SHA256 in
// Compliancely-Signature. Source: https://apideveloper.compliancely.com/docs/webhooks.
// That page does not say how the digest is written. Assumed are 64 hex digits
// with or without "sha256=" before them; if yours come in Base64, set Encoding.
func Compliancely() Scheme {
	return Scheme{Header: "Compliancely-Signature", Prefix: "sha256=", PrefixOptional: true, Hash: crypto.SHA256}
}

// Verifier verifies deliveries against one or more secrets. Make it with New:
// the zero value has no secret and refuses everything. All methods may be
// called concurrently.
type Verifier struct {
	scheme Scheme
	field  signature.Field
	keys   atomic.Pointer[[]*key]
}

// key holds keyed MACs for reuse: making one costs several allocations and
// two blocks of hashing, resetting one costs neither.
type key struct {
	macs     sync.Pool
	approved bool // under FIPS 140-only mode
}

// scratch is what verifying with one key needs.
type scratch struct {
	mac hash.Hash
	sum [signature.MaxDigest]byte
}

// fipsMinSecret is the length in bytes (112 bits) of the shortest secret that
// FIPS 140-only mode allows.
const fipsMinSecret = 14

// New returns a Verifier that accepts what any one of the secrets has signed;
// during a rotation give the current and the previous one. Secrets are bytes,
// used as they are: a line break at the end of a file is part of them. New
// copies them.
//
// New returns an error for a Scheme that it cannot follow, for no secret, for
// a secret that is empty or has nothing but blanks and line breaks, and, under GODEBUG=fips140=only, for SHA-1
// and for secrets of less than 14 bytes (112 bits).
func New(s Scheme, secrets ...[]byte) (*Verifier, error) {
	field, err := s.field()
	if err != nil {
		return nil, fmt.Errorf("hmac: %w", err)
	}
	v := &Verifier{scheme: s, field: field}
	if err := v.SetKeys(secrets...); err != nil {
		return nil, err
	}
	return v, nil
}

func (s Scheme) field() (signature.Field, error) {
	if _, err := signature.NewHash(s.Hash); err != nil {
		return signature.Field{}, err
	}
	return signature.NewField(s.Header, s.Prefix, s.PrefixOptional, signature.Encoding(s.Encoding))
}

// SetKeys replaces all secrets at once, for every Verify that starts after it
// returns. If one of them is refused, as by New, the old ones stay.
func (v *Verifier) SetKeys(secrets ...[]byte) error {
	if v == nil || v.scheme.Header == "" {
		return errors.New("hmac: SetKeys on a Verifier that New has not made")
	}
	if len(secrets) == 0 {
		return errors.New("hmac: no secret: pass the one that the sender signs with")
	}
	keys := make([]*key, len(secrets))
	for i, secret := range secrets {
		if err := checkSecret(secret); err != nil {
			return fmt.Errorf("hmac: secret %d of %d %w", i+1, len(secrets), err)
		}
		newHash, err := signature.NewHash(v.scheme.Hash)
		if err != nil {
			return fmt.Errorf("hmac: %w", err)
		}
		keys[i] = newKey(newHash, v.scheme.Hash, secret)
	}
	v.keys.Store(&keys)
	return nil
}

// load returns the keys in use, or none if New has not made v.
func (v *Verifier) load() []*key {
	if v == nil {
		return nil
	}
	if keys := v.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

func checkSecret(secret []byte) error {
	switch {
	case len(secret) == 0:
		return errors.New("is empty: is its variable or file set?")
	case len(bytes.Trim(secret, " \t\r\n")) == 0:
		return errors.New("is blank: is its variable or file set?")
	case fips140.Enforced() && len(secret) < fipsMinSecret:
		return fmt.Errorf("has less than %d bytes, the least that GODEBUG=fips140=only allows", fipsMinSecret)
	}
	return nil
}

func newKey(newHash func() hash.Hash, h crypto.Hash, secret []byte) *key {
	secret = append([]byte(nil), secret...)
	k := &key{approved: h != crypto.SHA1 && len(secret) >= fipsMinSecret}
	k.macs.New = func() any {
		return &scratch{mac: stdhmac.New(newHash, secret)}
	}
	return k
}

// matches reports, as 1 or 0, whether got is the MAC of body. Its time does
// not depend on where they differ.
func (k *key) matches(body, got []byte) int {
	s := k.macs.Get().(*scratch)
	s.mac.Reset()
	s.mac.Write(body)
	equal := subtle.ConstantTimeCompare(s.mac.Sum(s.sum[:0]), got)
	clear(s.sum[:])
	k.macs.Put(s)
	return equal
}

// Verify returns nil if header carries exactly one signature, made over body
// with any of the secrets. Otherwise the error wraps ErrMissing, ErrMalformed
// or ErrMismatch.
//
// body must be the bytes as they came over the wire, before any decompression
// or parsing. header is the request's: its keys must be in canonical form, as
// net/http and Header.Set leave them.
func (v *Verifier) Verify(body []byte, header http.Header) error {
	_, err := v.VerifyKey(body, header)
	return err
}

// VerifyKey is Verify that also returns the index of the secret that matched,
// in the order in which New or SetKeys was given them, so that one sees when a
// rotation is over. With an error the index is -1.
//
// Every secret is tried, whichever matches, in the same time.
func (v *Verifier) VerifyKey(body []byte, header http.Header) (key int, err error) {
	keys := v.load()
	if len(keys) == 0 {
		return -1, signature.Uninitialised("hmac")
	}
	var buf [signature.MaxDigest]byte
	got, err := v.field.Read(buf[:v.scheme.Hash.Size()], header)
	if err != nil {
		return -1, err
	}
	if len(got) != v.scheme.Hash.Size() {
		return -1, v.field.WrongLength(len(got), "bytes")
	}
	enforced := fips140.Enforced()
	key = -1
	for i, k := range keys {
		if enforced && !k.approved {
			return -1, signature.Forbidden("this HMAC's hash or a secret of less than 112 bits")
		}
		// Of several equal secrets the first is told.
		first := subtle.ConstantTimeEq(int32(key), -1)
		key = subtle.ConstantTimeSelect(k.matches(body, got)&first, i, key)
	}
	if key < 0 {
		return -1, signature.Mismatch(v.field.Name(), len(keys))
	}
	return key, nil
}

// String names the header and the hash and counts the secrets. It contains no
// secret, nor does any other formatting of a Verifier.
func (v *Verifier) String() string {
	keys := v.load()
	if len(keys) == 0 {
		return "hmac.Verifier(no keys)"
	}
	return fmt.Sprintf("hmac.Verifier(%s, HMAC-%v, %s)",
		v.field.Name(), v.scheme.Hash, signature.Count(len(keys), "key"))
}

// GoString is String, for %#v.
func (v *Verifier) GoString() string { return v.String() }

// Sign returns a header value that the sender could send with body, always
// with the Scheme's Prefix: for tests, and for playing a sender. It refuses what
// New refuses.
func Sign(s Scheme, secret, body []byte) (value string, err error) {
	field, err := s.field()
	if err != nil {
		return "", fmt.Errorf("hmac: %w", err)
	}
	if err := checkSecret(secret); err != nil {
		return "", fmt.Errorf("hmac: the secret %w", err)
	}
	newHash, err := signature.NewHash(s.Hash)
	if err != nil {
		return "", fmt.Errorf("hmac: %w", err)
	}
	mac := stdhmac.New(newHash, secret)
	mac.Write(body)
	return field.Format(mac.Sum(nil)), nil
}
