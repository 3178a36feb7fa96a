package conformance

import (
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/internal/keytext"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/rsasig"
)

// TestOddStructures parses DER that is well formed and is no key of ours.
func TestOddStructures(t *testing.T) {
	der := func(v any) []byte {
		text, err := asn1.Marshal(v)
		require.NoError(t, err)
		return text
	}
	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params asn1.RawValue `asn1:"optional"`
	}
	type spki struct {
		Algorithm algorithm
		Key       asn1.BitString
	}
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	oidRSA, oidDSA := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}
	rsaKey := &testkeys.RSA(t, 3072).PublicKey
	dsaKey := &testkeys.DSA(t, 1024, 160).PublicKey
	pkcs1 := der(struct{ N, E *big.Int }{rsaKey.N, big.NewInt(65537)})
	null := asn1.NullRawValue
	padded := b64(pkixOf(t, rsaKey))
	require.Contains(t, padded, "=", "the length of this key is chosen for its padding")

	tests := []struct {
		name    string
		text    string
		wantRSA error
		wantDSA error
	}{
		{"RSA", string(der(spki{algorithm{oidRSA, null}, bits(pkcs1)})), nil, keytext.ErrAlgorithm},
		{"RSA without NULL", string(der(spki{algorithm{oidRSA, asn1.RawValue{}}, bits(pkcs1)})), keytext.ErrUnreadable, keytext.ErrAlgorithm},
		{"RSA with bytes inside after the key", string(der(spki{algorithm{oidRSA, null}, bits(append(pkcs1[:len(pkcs1):len(pkcs1)], 0))})), keytext.ErrUnreadable, keytext.ErrAlgorithm},
		{"RSA, bits that are no bytes", string(der(spki{algorithm{oidRSA, null}, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}})), keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"RSA, no key", string(der(spki{algorithm{oidRSA, null}, bits(nil)})), keytext.ErrUnreadable, keytext.ErrAlgorithm},
		{"RSA, negative modulus", string(der(struct{ N, E *big.Int }{new(big.Int).Neg(rsaKey.N), big.NewInt(3)})), keytext.ErrUnreadable, keytext.ErrAlgorithm},
		{"RSA, exponent 0", string(der(struct{ N, E *big.Int }{rsaKey.N, new(big.Int)})), keytext.ErrUnreadable, keytext.ErrAlgorithm},
		{"DSA without parameters", string(der(spki{algorithm{oidDSA, asn1.RawValue{}}, bits(der(dsaKey.Y))})), keytext.ErrAlgorithm, keytext.ErrHalf},
		{"DSA with NULL for parameters", string(der(spki{algorithm{oidDSA, null}, bits(der(dsaKey.Y))})), keytext.ErrAlgorithm, keytext.ErrHalf},
		{"DSA's parameters alone", string(der(struct{ P, Q, G *big.Int }{dsaKey.P, dsaKey.Q, dsaKey.G})), keytext.ErrHalf, keytext.ErrHalf},
		{"four numbers", string(der(struct{ Y, P, Q, G *big.Int }{dsaKey.Y, dsaKey.P, dsaKey.Q, dsaKey.G})), keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"one number", string(der(struct{ Y *big.Int }{dsaKey.Y})), keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"unknown algorithm", string(der(spki{algorithm{asn1.ObjectIdentifier{1, 2, 3}, null}, bits([]byte{0})})), keytext.ErrAlgorithm, keytext.ErrAlgorithm},
		{"empty SEQUENCE", "\x30\x00", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"SEQUENCE of an empty one", "\x30\x02\x30\x00", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"SEQUENCE of text", string(der([]string{"a", "b"})), keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"certificate of version 1", string(der(struct {
			TBS struct {
				Serial int
				Alg    algorithm
			}
		}{struct {
			Serial int
			Alg    algorithm
		}{5, algorithm{oidRSA, null}}})), keytext.ErrCertificate, keytext.ErrCertificate},
		{"indefinite length", "\x30\x80\x02\x01\x05\x02\x01\x05\x00\x00", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"length of four bytes", "\x30\x84\x00\x00\x00\x06\x02\x01\x05\x02\x01\x05", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"length cut off", "\x30\x82\x01", keytext.ErrUnreadable, keytext.ErrUnreadable},

		{"padded Base64 and another key", padded + "\n" + padded, keytext.ErrTwo, keytext.ErrTwo},
		{"padded Base64 and text", padded + "\nabc", keytext.ErrTrailing, keytext.ErrTrailing},
		{"padding inside", "AAAA=AAAA", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"padding alone", "==", keytext.ErrUnreadable, keytext.ErrUnreadable},
		{"one character", "A", keytext.ErrUnreadable, keytext.ErrUnreadable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rsaErr := rsasig.ParsePublicKey([]byte(tt.text))
			_, dsaErr := dsasig.ParsePublicKey([]byte(tt.text))
			if tt.wantRSA == nil {
				assert.NoError(t, rsaErr)
			} else {
				assert.ErrorIs(t, rsaErr, tt.wantRSA)
			}
			assert.ErrorIs(t, dsaErr, tt.wantDSA)
		})
	}
}
