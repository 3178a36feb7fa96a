// Package rsasig verifies webhook deliveries that are signed with RSA
// (RSASSA-PKCS1-v1_5) over the request body: those of Zoho SalesIQ
// (x-siqsignature), and of any other sender that a [Scheme] can describe.
//
// A signature proves that the holder of the private key signed these bytes. It
// does not prove when: SalesIQ signs no timestamp, so a captured delivery
// verifies for ever. Nothing but the body is signed: not the URL, not the
// other headers.
package rsasig

import (
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync/atomic"

	"github.com/hooktrust/hooktrust/internal/signature"
)

// Errors that Verify and VerifyKey return, wrapped with what to look at. They
// are the same values in hmac, rsasig and dsasig. No error contains a key, the
// header's value or any of the body.
var (
	// ErrMissing: the request has no signature header.
	ErrMissing = signature.ErrMissing
	// ErrMalformed: there is not exactly one signature header value of the
	// form and length that the Scheme and the keys prescribe.
	ErrMalformed = signature.ErrMalformed
	// ErrMismatch: the signature was not made over this body with any of the
	// keys.
	ErrMismatch = signature.ErrMismatch
)

// Encoding says how the signature is written in the header.
type Encoding int

const (
	Hex    Encoding = iota // hex digits in either case
	Base64                 // standard alphabet, padded, strict, on one line
)

// Sizes of RSA keys, in bits.
const (
	defaultMinBits = 2048
	leastMinBits   = 1024
	maxBits        = 8192
)

// Scheme says where a sender puts its signature and how it is computed. It is
// a plain value: take a sender's and change a field, or fill in your own.
type Scheme struct {
	Header   string      // request header that carries the signature
	Prefix   string      // what stands before the encoded signature
	Hash     crypto.Hash // SHA1, SHA224, SHA256, SHA384 or SHA512
	Encoding Encoding
	MinBits  int // shortest modulus accepted, in bits; 0 means 2048, and 1024 is the least
}

// SalesIQ returns the scheme of Zoho SalesIQ's webhooks: SHA-256 with RSA, in
// Base64, in x-siqsignature. Sources: https://www.zoho.com/salesiq/help/webhooks.html
// and https://www.zoho.com/salesiq/help/developer-section/zobot-webhook-authentication-2.0.html.
//
// SalesIQ holds at most two public keys at a time and signs with the older
// one: give New both during a rotation. The size of its keys is not
// documented; if yours has 1024 bits, set MinBits to 1024.
func SalesIQ() Scheme {
	return Scheme{Header: "x-siqsignature", Hash: crypto.SHA256, Encoding: Base64}
}

// Verifier verifies deliveries against one or more public keys. Make it with
// New: the zero value has no key and refuses everything. All methods may be
// called concurrently.
type Verifier struct {
	scheme Scheme
	field  signature.Field
	keys   atomic.Pointer[[]*rsa.PublicKey]
}

// New returns a Verifier that accepts what the holder of any one of the keys
// has signed; during a rotation give the current and the previous one. New
// copies them.
//
// New returns an error for a Scheme that it cannot follow, for no key, and for
// a key that is nil or incomplete, shorter than Scheme.MinBits or longer than
// 8192 bits, or whose modulus is even or whose exponent is even or less than 3.
// Under GODEBUG=fips140=only it also refuses SHA-1, keys of less than 2048 bits
// or of an odd number of them, and exponents below 65537.
func New(s Scheme, keys ...*rsa.PublicKey) (*Verifier, error) {
	field, err := s.field()
	if err != nil {
		return nil, fmt.Errorf("rsasig: %w", err)
	}
	v := &Verifier{scheme: s, field: field}
	if err := v.SetKeys(keys...); err != nil {
		return nil, err
	}
	return v, nil
}

func (s Scheme) field() (signature.Field, error) {
	if _, err := signature.NewHash(s.Hash); err != nil {
		return signature.Field{}, err
	}
	if s.MinBits != 0 && (s.MinBits < leastMinBits || s.MinBits > maxBits) {
		return signature.Field{}, fmt.Errorf("the Scheme's MinBits %d is not between %d and %d", s.MinBits, leastMinBits, maxBits)
	}
	return signature.NewField(s.Header, s.Prefix, false, signature.Encoding(s.Encoding))
}

// SetKeys replaces all keys at once, for every Verify that starts after it
// returns. If one of them is refused, as by New, the old ones stay.
func (v *Verifier) SetKeys(keys ...*rsa.PublicKey) error {
	if v == nil || v.scheme.Header == "" {
		return errors.New("rsasig: SetKeys on a Verifier that New has not made")
	}
	if len(keys) == 0 {
		return errors.New("rsasig: no key: pass the sender's public key")
	}
	copies := make([]*rsa.PublicKey, len(keys))
	for i, key := range keys {
		if err := v.scheme.checkKey(key); err != nil {
			return fmt.Errorf("rsasig: key %d of %d %w", i+1, len(keys), err)
		}
		copies[i] = &rsa.PublicKey{N: new(big.Int).Set(key.N), E: key.E}
	}
	v.keys.Store(&copies)
	return nil
}

func (s Scheme) checkKey(key *rsa.PublicKey) error {
	if key == nil || key.N == nil || key.N.Sign() <= 0 {
		return errors.New("is nil or has no modulus")
	}
	minBits := s.MinBits
	if minBits == 0 {
		minBits = defaultMinBits
	}
	bits := key.N.BitLen()
	switch {
	case bits < minBits && bits >= leastMinBits:
		return fmt.Errorf("has %d bits, less than %d; ask the sender for a longer one, or set MinBits if there is none", bits, minBits)
	case bits < minBits:
		return fmt.Errorf("has %d bits, less than %d; ask the sender for a longer one", bits, minBits)
	case bits > maxBits:
		return fmt.Errorf("has %d bits, more than %d", bits, maxBits)
	case key.N.Bit(0) == 0:
		return errors.New("has an even modulus: it is damaged")
	case key.E < 3 || key.E%2 == 0 || int64(key.E) > 1<<31-1:
		return errors.New("has an exponent that is not an odd number from 3 to 2147483647: it is damaged")
	case fips140.Enforced() && !approved(s.Hash, key):
		return errors.New("is not allowed under GODEBUG=fips140=only: less than 2048 bits, an odd number of bits, or an exponent below 65537")
	}
	return nil
}

// approved reports whether FIPS 140-only mode allows to verify with key.
func approved(h crypto.Hash, key *rsa.PublicKey) bool {
	return h != crypto.SHA1 && key.N.BitLen() >= 2048 && key.N.BitLen()%2 == 0 && key.E > 1<<16
}

// load returns the keys in use, or none if New has not made v.
func (v *Verifier) load() []*rsa.PublicKey {
	if v == nil {
		return nil
	}
	if keys := v.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// Verify returns nil if header carries exactly one signature, made over body
// by the holder of any of the keys. Otherwise the error wraps ErrMissing,
// ErrMalformed or ErrMismatch.
//
// body must be the bytes as they came over the wire, before any decompression
// or parsing. header is the request's: its keys must be in canonical form, as
// net/http and Header.Set leave them.
func (v *Verifier) Verify(body []byte, header http.Header) error {
	_, err := v.VerifyKey(body, header)
	return err
}

// VerifyKey is Verify that also returns the index of the key that matched, in
// the order in which New or SetKeys was given them, so that one sees when a
// rotation is over. With an error the index is -1.
func (v *Verifier) VerifyKey(body []byte, header http.Header) (key int, err error) {
	keys := v.load()
	if len(keys) == 0 {
		return -1, signature.Uninitialised("rsasig")
	}
	var buf [maxBits / 8]byte
	sig, err := v.field.Read(buf[:], header)
	if err != nil {
		return -1, err
	}
	if fips140.Enforced() && v.scheme.Hash == crypto.SHA1 {
		return -1, signature.Forbidden("SHA-1")
	}
	var digestBuf [signature.MaxDigest]byte
	digest := signature.Digest(&digestBuf, v.scheme.Hash, body)
	readable := false
	for i, k := range keys {
		if len(sig) != k.Size() {
			continue
		}
		readable = true
		if rsa.VerifyPKCS1v15(k, v.scheme.Hash, digest, sig) == nil {
			return i, nil
		}
	}
	if !readable {
		return -1, v.field.WrongLength(len(sig), "bytes")
	}
	return -1, signature.Mismatch(v.field.Name(), len(keys))
}

// String names the header and the algorithm and counts the keys.
func (v *Verifier) String() string {
	keys := v.load()
	if len(keys) == 0 {
		return "rsasig.Verifier(no keys)"
	}
	return fmt.Sprintf("rsasig.Verifier(%s, RSA with %v, %s)",
		v.field.Name(), v.scheme.Hash, signature.Count(len(keys), "key"))
}

// GoString is String, for %#v.
func (v *Verifier) GoString() string { return v.String() }

// Sign returns a header value that the sender could send with body, always
// with the Scheme's Prefix: for tests, and for playing a sender. It refuses what
// New refuses.
func Sign(s Scheme, key *rsa.PrivateKey, body []byte) (value string, err error) {
	field, err := s.field()
	if err != nil {
		return "", fmt.Errorf("rsasig: %w", err)
	}
	if key == nil {
		return "", errors.New("rsasig: the key is nil")
	}
	if err := s.checkKey(&key.PublicKey); err != nil {
		return "", fmt.Errorf("rsasig: the key %w", err)
	}
	var buf [signature.MaxDigest]byte
	sig, err := rsa.SignPKCS1v15(nil, key, s.Hash, signature.Digest(&buf, s.Hash, body))
	if err != nil {
		return "", fmt.Errorf("rsasig: %w", err)
	}
	return field.Format(sig), nil
}
