package rsasig_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/rsasig"
)

// BenchmarkVerify stands beside crypto/rsa on a signature that is already
// decoded: the header is the difference.
func BenchmarkVerify(b *testing.B) {
	body := make([]byte, 1<<10)
	key := testkeys.RSA(b, 2048)
	digest := sha256.Sum256(body)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	require.NoError(b, err)
	value, err := rsasig.Sign(rsasig.SalesIQ(), key, body)
	require.NoError(b, err)
	v, err := rsasig.New(rsasig.SalesIQ(), &key.PublicKey)
	require.NoError(b, err)
	header := http.Header{"X-Siqsignature": {value}}

	b.Run("2048/crypto_rsa", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			digest := sha256.Sum256(body)
			if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], sig); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("2048/hooktrust", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := v.Verify(body, header); err != nil {
				b.Fatal(err)
			}
		}
	})
}
