// Package fipstest runs under GODEBUG=fips140=only, where the standard library
// panics on DSA, on SHA-1 and on short HMAC keys: here every constructor must
// return an error instead, and what is allowed must work.
//
//go:debug fips140=only
package fipstest

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

const long = "0123456789abcdef"

var body = []byte("{}")

func TestMain(m *testing.M) {
	if !fips140.Enforced() {
		panic("the go:debug directive of this file has no effect: nothing would be tested")
	}
	m.Run()
}

func TestHMAC(t *testing.T) {
	tests := []struct {
		name   string
		scheme hmac.Scheme
		secret string
		wantOK bool
	}{
		{"SHA-256, 128 bits", hmac.Compliancely(), long, true},
		{"SHA-256, 112 bits", hmac.Compliancely(), long[:14], true},
		{"SHA-256, 104 bits", hmac.Compliancely(), long[:13], false},
		{"SHA-1", hmac.Haptik(), long, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := hmac.New(tt.scheme, []byte(tt.secret))
			value, signErr := hmac.Sign(tt.scheme, []byte(tt.secret), body)
			if !tt.wantOK {
				assert.ErrorContains(t, err, "fips140=only")
				assert.ErrorContains(t, signErr, "fips140=only")
				return
			}
			require.NoError(t, err)
			require.NoError(t, signErr)
			assert.NoError(t, v.Verify(body, http.Header{"Compliancely-Signature": {value}}))
		})
	}
}

func TestRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	modulus := func(bits uint) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		return &rsa.PublicKey{N: n.Sub(n, big.NewInt(1)), E: 65537}
	}
	weak := rsasig.SalesIQ()
	weak.MinBits = 1024
	sha1 := rsasig.SalesIQ()
	sha1.Hash = crypto.SHA1
	tests := []struct {
		name   string
		scheme rsasig.Scheme
		key    *rsa.PublicKey
		wantOK bool
	}{
		{"2048 bits", rsasig.SalesIQ(), &key.PublicKey, true},
		{"1024 bits", weak, modulus(1024), false},
		{"odd number of bits", rsasig.SalesIQ(), modulus(2049), false},
		{"exponent 3", rsasig.SalesIQ(), &rsa.PublicKey{N: key.N, E: 3}, false},
		{"SHA-1", sha1, &key.PublicKey, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := rsasig.New(tt.scheme, tt.key)
			if !tt.wantOK {
				assert.ErrorContains(t, err, "fips140=only")
				return
			}
			require.NoError(t, err)
			value, err := rsasig.Sign(tt.scheme, key, body)
			require.NoError(t, err)
			assert.NoError(t, v.Verify(body, http.Header{"X-Siqsignature": {value}}))
		})
	}
	_, err = rsasig.Sign(sha1, key, body)
	assert.ErrorContains(t, err, "fips140=only")
}

func TestDSA(t *testing.T) {
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	require.NoError(t, err)
	key, err := dsasig.ParsePublicKey(text)
	require.NoError(t, err)
	_, err = dsasig.New(dsasig.ConvoKraft(), key)
	assert.ErrorContains(t, err, "fips140=only")
	_, err = dsasig.Sign(dsasig.ConvoKraft(), &dsa.PrivateKey{PublicKey: *key, X: big.NewInt(5)}, body)
	assert.ErrorContains(t, err, "fips140=only")
}

// TestMadeOutside makes Verifiers where enforcement is suspended and uses them
// where it is not.
func TestMadeOutside(t *testing.T) {
	var verifiers []interface {
		Verify([]byte, http.Header) error
	}
	header := http.Header{}
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	require.NoError(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	fips140.WithoutEnforcement(func() {
		h, err := hmac.New(hmac.Haptik(), []byte(long))
		require.NoError(t, err)
		short, err := hmac.New(hmac.Compliancely(), []byte("short"))
		require.NoError(t, err)
		s := rsasig.SalesIQ()
		s.Hash = crypto.SHA1
		r, err := rsasig.New(s, &key.PublicKey)
		require.NoError(t, err)
		pub, err := dsasig.ParsePublicKey(text)
		require.NoError(t, err)
		d, err := dsasig.New(dsasig.ConvoKraft(), pub)
		require.NoError(t, err)
		verifiers = append(verifiers, h, short, r, d)

		for _, sign := range []func() (string, string, error){
			func() (string, string, error) {
				v, err := hmac.Sign(hmac.Haptik(), []byte(long), body)
				return "X-Hub-Signature", v, err
			},
			func() (string, string, error) {
				v, err := hmac.Sign(hmac.Compliancely(), []byte("short"), body)
				return "Compliancely-Signature", v, err
			},
			func() (string, string, error) {
				v, err := rsasig.Sign(s, key, body)
				return s.Header, v, err
			},
		} {
			name, value, err := sign()
			require.NoError(t, err)
			header.Set(name, value)
		}
		header.Set("X-CONVOKRAFT-SIGNATURE", "MAYCAQECAQE=")
		assert.NoError(t, h.Verify(body, header))
		assert.NoError(t, short.Verify(body, header))
		assert.NoError(t, r.Verify(body, header))
	})
	for _, v := range verifiers {
		assert.ErrorIs(t, v.Verify(body, header), hmac.ErrMismatch)
		assert.ErrorContains(t, v.Verify(body, header), "fips140=only")
	}
}
