// Package conformance runs the same cases over hmac, rsasig and dsasig.
package conformance

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/rsasig"
)

// verifier is what the three packages' Verifiers have in common but SetKeys,
// whose argument differs.
type verifier interface {
	Verify(body []byte, header http.Header) error
	VerifyKey(body []byte, header http.Header) (int, error)
	String() string
	GoString() string
}

// kit is a package under one scheme, with keys made for this run.
type kit struct {
	name   string
	header string
	prefix string
	base64 bool
	// bare says that the scheme accepts values without the prefix.
	bare bool
	// exact says that a signature of another length is malformed.
	exact bool
	keys  int // that can be signed with

	// verify makes a Verifier of the keys with these indexes.
	verify func(t testing.TB, keys ...int) verifier
	// set calls SetKeys with them; an index of -1 is a key that is refused.
	set  func(v verifier, keys ...int) error
	sign func(t testing.TB, key int, body []byte) string
	// zero are Verifiers that New has not made.
	zero []verifier
}

func (k kit) encode(sig []byte) string {
	if k.base64 {
		return k.prefix + base64.StdEncoding.EncodeToString(sig)
	}
	return k.prefix + hex.EncodeToString(sig)
}

func (k kit) decode(t testing.TB, value string) []byte {
	t.Helper()
	encoded, found := strings.CutPrefix(value, k.prefix)
	require.True(t, found)
	if k.base64 {
		sig, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		return sig
	}
	sig, err := hex.DecodeString(encoded)
	require.NoError(t, err)
	return sig
}

func (k kit) carry(values ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for _, v := range values {
		h.Add(k.header, v)
	}
	return h
}

func kits(t testing.TB) []kit {
	plain := hmac.Scheme{Header: "X-Sig", Hash: crypto.SHA512, Encoding: hmac.Base64}
	oldRSA := rsasig.Scheme{Header: "X-Sig", Prefix: "rsa=", Hash: crypto.SHA1, MinBits: 1024}
	oldDSA := dsasig.Scheme{Header: "X-Sig", Prefix: "dsa=", Hash: crypto.SHA512, Format: dsasig.P1363}
	return []kit{
		hmacKit("hmac/haptik", hmac.Haptik()),
		hmacKit("hmac/compliancely", hmac.Compliancely()),
		hmacKit("hmac/sha512-base64", plain),
		rsaKit(t, "rsasig/salesiq", rsasig.SalesIQ(), 2048),
		rsaKit(t, "rsasig/sha1-hex-1024", oldRSA, 1024),
		dsaKit(t, "dsasig/convokraft", dsasig.ConvoKraft(), 2048, 256),
		dsaKit(t, "dsasig/sha512-hex-p1363", oldDSA, 1024, 160),
	}
}

func hmacKit(name string, s hmac.Scheme) kit {
	secrets := make([][]byte, 3)
	for i := range secrets {
		secrets[i] = []byte(rand.Text())
	}
	pick := func(keys []int) [][]byte {
		picked := make([][]byte, len(keys))
		for i, key := range keys {
			if key >= 0 {
				picked[i] = secrets[key]
			}
		}
		return picked
	}
	return kit{
		name: name, header: s.Header, prefix: s.Prefix, base64: s.Encoding == hmac.Base64,
		bare: s.PrefixOptional || s.Prefix == "", exact: true, keys: len(secrets),
		verify: func(t testing.TB, keys ...int) verifier {
			v, err := hmac.New(s, pick(keys)...)
			require.NoError(t, err)
			return v
		},
		set: func(v verifier, keys ...int) error { return v.(*hmac.Verifier).SetKeys(pick(keys)...) },
		sign: func(t testing.TB, key int, body []byte) string {
			value, err := hmac.Sign(s, secrets[key], body)
			require.NoError(t, err)
			return value
		},
		zero: []verifier{new(hmac.Verifier), (*hmac.Verifier)(nil)},
	}
}

func rsaKit(t testing.TB, name string, s rsasig.Scheme, bits int) kit {
	privates := make([]*rsa.PrivateKey, 3)
	for i := range privates {
		privates[i] = testkeys.RSA(t, bits)
	}
	pick := func(keys []int) []*rsa.PublicKey {
		picked := make([]*rsa.PublicKey, len(keys))
		for i, key := range keys {
			if key >= 0 {
				picked[i] = &privates[key].PublicKey
			}
		}
		return picked
	}
	return kit{
		name: name, header: s.Header, prefix: s.Prefix, base64: s.Encoding == rsasig.Base64,
		bare: s.Prefix == "", exact: true, keys: len(privates),
		verify: func(t testing.TB, keys ...int) verifier {
			v, err := rsasig.New(s, pick(keys)...)
			require.NoError(t, err)
			return v
		},
		set: func(v verifier, keys ...int) error { return v.(*rsasig.Verifier).SetKeys(pick(keys)...) },
		sign: func(t testing.TB, key int, body []byte) string {
			value, err := rsasig.Sign(s, privates[key], body)
			require.NoError(t, err)
			return value
		},
		zero: []verifier{new(rsasig.Verifier), (*rsasig.Verifier)(nil)},
	}
}

func dsaKit(t testing.TB, name string, s dsasig.Scheme, l, n int) kit {
	privates := make([]*dsa.PrivateKey, 3)
	for i := range privates {
		privates[i] = testkeys.DSA(t, l, n)
	}
	pick := func(keys []int) []*dsa.PublicKey {
		picked := make([]*dsa.PublicKey, len(keys))
		for i, key := range keys {
			if key >= 0 {
				picked[i] = &privates[key].PublicKey
			}
		}
		return picked
	}
	return kit{
		name: name, header: s.Header, prefix: s.Prefix, base64: s.Encoding == dsasig.Base64,
		bare: s.Prefix == "", exact: s.Format == dsasig.P1363, keys: len(privates),
		verify: func(t testing.TB, keys ...int) verifier {
			v, err := dsasig.New(s, pick(keys)...)
			require.NoError(t, err)
			return v
		},
		set: func(v verifier, keys ...int) error { return v.(*dsasig.Verifier).SetKeys(pick(keys)...) },
		sign: func(t testing.TB, key int, body []byte) string {
			value, err := dsasig.Sign(s, privates[key], body)
			require.NoError(t, err)
			return value
		},
		zero: []verifier{new(dsasig.Verifier), (*dsasig.Verifier)(nil)},
	}
}
