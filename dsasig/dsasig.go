// Package dsasig verifies webhook deliveries that are signed with DSA over the
// request body: those of Zoho Catalyst ConvoKraft (X-CONVOKRAFT-SIGNATURE),
// and of any other sender that a [Scheme] can describe.
//
// A signature proves that the holder of the private key signed these bytes. It
// does not prove when: ConvoKraft signs no timestamp, so a captured delivery
// verifies for ever. Nothing but the body is signed: not the URL, not the
// other headers.
package dsasig

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 the sender signs with DSA and offers nothing else
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hooktrust/hooktrust/internal/dsafast"
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

// Format says how r and s, the two integers of a DSA signature, make bytes.
type Format int

const (
	DER   Format = iota // ASN.1 SEQUENCE{r, s}, strict DER, as Java's SHA256withDSA gives
	P1363               // r and s, each of exactly q's length, as Java's SHA256withDSAinP1363Format gives
)

// Scheme says where a sender puts its signature and how it is computed. It is
// a plain value: take a sender's and change a field, or fill in your own.
type Scheme struct {
	Header   string      // request header that carries the signature
	Prefix   string      // what stands before the encoded signature
	Hash     crypto.Hash // SHA1, SHA224, SHA256, SHA384 or SHA512; cut to q's length if longer
	Encoding Encoding
	Format   Format
}

// ConvoKraft returns the scheme of Zoho Catalyst ConvoKraft's webhooks: DSA in
// X-CONVOKRAFT-SIGNATURE. Source:
// https://docs.catalyst.zoho.com/en/convokraft/help/actions/bot-logic/webhooks/.
//
// That page names neither the hash, nor the encoding, nor the size of the
// keys. Assumed is what Java's SHA256withDSA gives, in Base64; if deliveries
// are refused, set Hash (crypto.SHA1 first), Encoding or Format.
func ConvoKraft() Scheme {
	return Scheme{Header: "X-CONVOKRAFT-SIGNATURE", Hash: crypto.SHA256, Encoding: Base64}
}

// Verifier verifies deliveries against one or more public keys. Make it with
// New: the zero value has no key and refuses everything. All methods may be
// called concurrently.
type Verifier struct {
	scheme Scheme
	field  signature.Field
	keys   atomic.Pointer[[]key]
}

// key is a public key made ready for fast verification.
type key struct {
	*dsafast.Key
	size int // of q, in bytes
}

// New returns a Verifier that accepts what the holder of any one of the keys
// has signed; during a rotation give the current and the previous one. New
// copies them.
//
// New returns an error for a Scheme that it cannot follow, for no key, and for
// a key that is nil or incomplete, or does not have one of the sizes (L, N) =
// (1024, 160), (2048, 224), (2048, 256) and (3072, 256) in bits, or whose
// numbers are not those of a DSA key: p and q prime, q dividing p-1, g and y
// greater than 1 and of order q. Checking that takes some tens of milliseconds
// a key. Under GODEBUG=fips140=only, which forbids DSA, New refuses every key.
//
// A key takes up to 384 KiB of memory, for tables that make verification about
// eight times as fast as crypto/dsa's.
func New(s Scheme, keys ...*dsa.PublicKey) (*Verifier, error) {
	field, err := s.field()
	if err != nil {
		return nil, fmt.Errorf("dsasig: %w", err)
	}
	v := &Verifier{scheme: s, field: field}
	if err := v.SetKeys(keys...); err != nil {
		return nil, err
	}
	return v, nil
}

func (s Scheme) field() (signature.Field, error) {
	if fips140.Enforced() {
		return signature.Field{}, errors.New("DSA is not allowed under GODEBUG=fips140=only")
	}
	if _, err := signature.NewHash(s.Hash); err != nil {
		return signature.Field{}, err
	}
	if s.Format != DER && s.Format != P1363 {
		return signature.Field{}, fmt.Errorf("the Scheme's Format %d is neither DER nor P1363", s.Format)
	}
	return signature.NewField(s.Header, s.Prefix, false, signature.Encoding(s.Encoding))
}

// SetKeys replaces all keys at once, for every Verify that starts after it
// returns. If one of them is refused, as by New, the old ones stay.
func (v *Verifier) SetKeys(keys ...*dsa.PublicKey) error {
	if v == nil || v.scheme.Header == "" {
		return errors.New("dsasig: SetKeys on a Verifier that New has not made")
	}
	if len(keys) == 0 {
		return errors.New("dsasig: no key: pass the sender's public key")
	}
	if fips140.Enforced() {
		return errors.New("dsasig: DSA is not allowed under GODEBUG=fips140=only")
	}
	ready := make([]key, len(keys))
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return fmt.Errorf("dsasig: key %d of %d %w", i+1, len(keys), err)
		}
		ready[i] = key{dsafast.New(k), k.Q.BitLen() / 8}
	}
	v.keys.Store(&ready)
	return nil
}

// buffers are for decoded signatures: in cryptobyte's hands an array would
// move to the heap at every request.
var buffers = sync.Pool{New: func() any { return new([maxSignature]byte) }}

// load returns the keys in use, or none if New has not made v.
func (v *Verifier) load() []key {
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
		return -1, signature.Uninitialised("dsasig")
	}
	buf := buffers.Get().(*[maxSignature]byte)
	defer buffers.Put(buf)
	sig, err := v.field.Read(buf[:], header)
	if err != nil {
		return -1, err
	}
	if fips140.Enforced() {
		return -1, signature.Forbidden("DSA")
	}
	var digestBuf [signature.MaxDigest]byte
	digest := signature.Digest(&digestBuf, v.scheme.Hash, body)
	readable := false
	for i, k := range keys {
		r, s, ok := v.scheme.Format.split(sig, k.size)
		if !ok {
			continue
		}
		readable = true
		if k.Verify(digest, r, s) {
			return i, nil
		}
	}
	if !readable {
		return -1, v.field.Malformed(fmt.Sprintf("its %d bytes are not a DSA signature in the Scheme's Format", len(sig)))
	}
	return -1, signature.Mismatch(v.field.Name(), len(keys))
}

// String names the header and the algorithm and counts the keys.
func (v *Verifier) String() string {
	keys := v.load()
	if len(keys) == 0 {
		return "dsasig.Verifier(no keys)"
	}
	return fmt.Sprintf("dsasig.Verifier(%s, DSA with %v, %s)",
		v.field.Name(), v.scheme.Hash, signature.Count(len(keys), "key"))
}

// GoString is String, for %#v.
func (v *Verifier) GoString() string { return v.String() }

// Sign returns a header value that the sender could send with body, always
// with the Scheme's Prefix: for tests, and for playing a sender. It refuses what
// New refuses, but takes on trust what takes long to check: that the key's
// numbers are primes and of order q.
func Sign(s Scheme, key *dsa.PrivateKey, body []byte) (value string, err error) {
	field, err := s.field()
	if err != nil {
		return "", fmt.Errorf("dsasig: %w", err)
	}
	if key == nil || key.X == nil {
		return "", errors.New("dsasig: the key is nil or has no private part")
	}
	if err := checkForm(&key.PublicKey); err != nil {
		return "", fmt.Errorf("dsasig: the key %w", err)
	}
	var buf [signature.MaxDigest]byte
	size := key.Q.BitLen() / 8
	digest := signature.Digest(&buf, s.Hash, body)
	// FIPS 186-4, section 4.6: of a longer digest, as much as q has from the
	// left. crypto/dsa leaves that to its caller.
	ri, si, err := dsa.Sign(rand.Reader, key, digest[:min(len(digest), size)])
	if err != nil {
		return "", fmt.Errorf("dsasig: %w", err)
	}
	return field.Format(s.Format.join(ri, si, size)), nil
}
