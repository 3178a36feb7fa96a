package rsasig_test

import (
	"crypto"
	"crypto/rsa"
	"math/big"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/rsasig"
)

// modulus returns a number of the given length, all ones: no key, but of a
// key's form.
func modulus(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits)
	return n.Sub(n, big.NewInt(1))
}

func TestNewKeys(t *testing.T) {
	tooLong := int64(1<<31 + 1) // an int of 32 bits makes it negative, which is as bad
	small, least := rsasig.SalesIQ(), rsasig.SalesIQ()
	small.MinBits, least.MinBits = 1024, 4096
	tests := []struct {
		name   string
		scheme rsasig.Scheme
		key    *rsa.PublicKey
		wantOK bool
	}{
		{"2048 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: 65537}, true},
		{"8192 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(8192), E: 65537}, true},
		{"exponent 3", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: 3}, true},
		{"1024 bits, opted in", small, &rsa.PublicKey{N: modulus(1024), E: 65537}, true},
		{"4096 bits required", least, &rsa.PublicKey{N: modulus(4096), E: 65537}, true},

		{"nil", rsasig.SalesIQ(), nil, false},
		{"zero value", rsasig.SalesIQ(), &rsa.PublicKey{}, false},
		{"no exponent", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048)}, false},
		{"no modulus", rsasig.SalesIQ(), &rsa.PublicKey{E: 65537}, false},
		{"modulus 0", rsasig.SalesIQ(), &rsa.PublicKey{N: new(big.Int), E: 65537}, false},
		{"negative modulus", rsasig.SalesIQ(), &rsa.PublicKey{N: new(big.Int).Neg(modulus(2048)), E: 65537}, false},
		{"even modulus", rsasig.SalesIQ(), &rsa.PublicKey{N: new(big.Int).Lsh(modulus(2047), 1), E: 65537}, false},
		{"2047 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2047), E: 65537}, false},
		{"1024 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(1024), E: 65537}, false},
		{"1023 bits, opted in", small, &rsa.PublicKey{N: modulus(1023), E: 65537}, false},
		{"512 bits, opted in", small, &rsa.PublicKey{N: modulus(512), E: 65537}, false},
		{"2048 bits where 4096 are required", least, &rsa.PublicKey{N: modulus(2048), E: 65537}, false},
		{"8193 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(8193), E: 65537}, false},
		{"65536 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(65536), E: 65537}, false},
		{"exponent 1", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: 1}, false},
		{"exponent 2", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: 2}, false},
		{"even exponent", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: 65536}, false},
		{"negative exponent", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: -3}, false},
		{"exponent of 32 bits", rsasig.SalesIQ(), &rsa.PublicKey{N: modulus(2048), E: int(tooLong)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := rsasig.New(tt.scheme, tt.key)
			if tt.wantOK {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Nil(t, v)
			good := &rsa.PublicKey{N: modulus(4096), E: 65537}
			v, err = rsasig.New(tt.scheme, good)
			require.NoError(t, err)
			assert.Error(t, v.SetKeys(good, tt.key))
		})
	}
	v, err := rsasig.New(rsasig.SalesIQ())
	assert.Error(t, err)
	assert.Nil(t, v)
}

func TestNewSchemes(t *testing.T) {
	key := &rsa.PublicKey{N: modulus(2048), E: 65537}
	tests := []struct {
		name   string
		change func(*rsasig.Scheme)
	}{
		{"no header", func(s *rsasig.Scheme) { s.Header = "" }},
		{"bad prefix", func(s *rsasig.Scheme) { s.Prefix = "rsa, " }},
		{"no hash", func(s *rsasig.Scheme) { s.Hash = 0 }},
		{"SHA3", func(s *rsasig.Scheme) { s.Hash = crypto.SHA3_256 }},
		{"unknown encoding", func(s *rsasig.Scheme) { s.Encoding = 7 }},
		{"MinBits 1023", func(s *rsasig.Scheme) { s.MinBits = 1023 }},
		{"MinBits negative", func(s *rsasig.Scheme) { s.MinBits = -1 }},
		{"MinBits 8193", func(s *rsasig.Scheme) { s.MinBits = 8193 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := rsasig.SalesIQ()
			tt.change(&s)
			_, err := rsasig.New(s, key)
			assert.Error(t, err)
			_, err = rsasig.Sign(s, &rsa.PrivateKey{PublicKey: *key}, nil)
			assert.Error(t, err)
		})
	}
}

func TestSignRefuses(t *testing.T) {
	for name, key := range map[string]*rsa.PrivateKey{
		"nil":               nil,
		"zero value":        {},
		"no private part":   {PublicKey: rsa.PublicKey{N: modulus(2048), E: 65537}},
		"private part only": {D: big.NewInt(3)},
		"1024 bits":         testkeys.RSA(t, 1024),
	} {
		_, err := rsasig.Sign(rsasig.SalesIQ(), key, nil)
		assert.Error(t, err, name)
	}
}

func TestNewCopiesKeys(t *testing.T) {
	key := testkeys.RSA(t, 2048)
	public := rsa.PublicKey{N: new(big.Int).Set(key.N), E: key.E}
	v, err := rsasig.New(rsasig.SalesIQ(), &public)
	require.NoError(t, err)
	public.N.SetInt64(15)
	public.E = 1
	value, err := rsasig.Sign(rsasig.SalesIQ(), key, nil)
	require.NoError(t, err)
	assert.NoError(t, v.Verify(nil, http.Header{"X-Siqsignature": {value}}))
}

// TestKeysOfSeveralLengths: a signature is compared with the keys of its
// length only, and is malformed if there is none.
func TestKeysOfSeveralLengths(t *testing.T) {
	key2, key3, key4 := testkeys.RSA(t, 2048), testkeys.RSA(t, 3072), testkeys.RSA(t, 4096)
	v, err := rsasig.New(rsasig.SalesIQ(), &key2.PublicKey, &key3.PublicKey)
	require.NoError(t, err)
	for _, tt := range []struct {
		name    string
		key     *rsa.PrivateKey
		want    int
		wantErr error
	}{
		{"first", key2, 0, nil},
		{"second", key3, 1, nil},
		{"of another length", key4, -1, rsasig.ErrMalformed},
		{"of the same length", testkeys.RSA(t, 3072), -1, rsasig.ErrMismatch},
	} {
		value, err := rsasig.Sign(rsasig.SalesIQ(), tt.key, nil)
		require.NoError(t, err)
		got, err := v.VerifyKey(nil, http.Header{"X-Siqsignature": {value}})
		assert.Equal(t, tt.want, got, tt.name)
		if tt.wantErr == nil {
			assert.NoError(t, err, tt.name)
		} else {
			assert.ErrorIs(t, err, tt.wantErr, tt.name)
		}
	}
}
