// Package testkeys makes the keys that tests sign with, at run time, and
// writes them in the forms that x509 has no encoder for.
package testkeys

import (
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/internal/keytext"
	"github.com/hooktrust/hooktrust/testdata"
)

// RSA returns a new key of the given length.
func RSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

// DSA returns a new key with a p of l and a q of n bits. Making p and q takes
// seconds, so those of a key in testdata serve all.
func DSA(t testing.TB, l, n int) *dsa.PrivateKey {
	t.Helper()
	text, err := testdata.PublicKey(fmt.Sprintf("dsa%d-%d-java-a", l, n))
	require.NoError(t, err)
	pub, err := keytext.DSA(text)
	require.NoError(t, err)
	key := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: pub.Parameters}}
	require.NoError(t, dsa.GenerateKey(key, rand.Reader))
	return key
}

var oidDSA = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}

type dsaAlgorithm struct {
	OID    asn1.ObjectIdentifier
	Params struct{ P, Q, G *big.Int }
}

func algorithm(p dsa.Parameters) dsaAlgorithm {
	a := dsaAlgorithm{OID: oidDSA}
	a.Params.P, a.Params.Q, a.Params.G = p.P, p.Q, p.G
	return a
}

// PKIX returns the SubjectPublicKeyInfo of a DSA key, in DER. The numbers may
// be any, so that tests can make keys that no generator would.
func PKIX(t testing.TB, key *dsa.PublicKey) []byte {
	t.Helper()
	y := marshal(t, key.Y)
	return marshal(t, struct {
		Algorithm dsaAlgorithm
		Key       asn1.BitString
	}{algorithm(key.Parameters), asn1.BitString{Bytes: y, BitLength: 8 * len(y)}})
}

// PKCS8 returns the PKCS #8 form of a DSA key, in DER.
func PKCS8(t testing.TB, key *dsa.PrivateKey) []byte {
	t.Helper()
	return marshal(t, struct {
		Version   int
		Algorithm dsaAlgorithm
		Key       []byte
	}{0, algorithm(key.Parameters), marshal(t, key.X)})
}

// OpenSSL returns the traditional form of a DSA private key, in DER.
func OpenSSL(t testing.TB, key *dsa.PrivateKey) []byte {
	t.Helper()
	return marshal(t, struct {
		Version       int
		P, Q, G, Y, X *big.Int
	}{0, key.P, key.Q, key.G, key.Y, key.X})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	require.NoError(t, err)
	return der
}
