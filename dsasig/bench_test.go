package dsasig_test

import (
	"crypto/dsa" //lint:ignore SA1019 the sender signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/internal/testkeys"
)

// BenchmarkVerify stands beside crypto/dsa on integers that are already read.
func BenchmarkVerify(b *testing.B) {
	body := make([]byte, 1<<10)
	for _, size := range sizes {
		key := testkeys.DSA(b, size[0], size[1])
		digest := sha256.Sum256(body)
		r, s, err := dsa.Sign(rand.Reader, key, digest[:size[1]/8])
		require.NoError(b, err)
		var der cryptobyte.Builder
		der.AddASN1(asn1.SEQUENCE, func(der *cryptobyte.Builder) {
			der.AddASN1BigInt(r)
			der.AddASN1BigInt(s)
		})
		header := http.Header{"X-Convokraft-Signature": {base64.StdEncoding.EncodeToString(der.BytesOrPanic())}}
		v, err := dsasig.New(dsasig.ConvoKraft(), &key.PublicKey)
		require.NoError(b, err)

		name := fmt.Sprintf("%d-%d", size[0], size[1])
		b.Run(name+"/crypto_dsa", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				digest := sha256.Sum256(body)
				if !dsa.Verify(&key.PublicKey, digest[:size[1]/8], r, s) {
					b.Fatal("refused")
				}
			}
		})
		b.Run(name+"/hooktrust", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Verify(body, header); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNew is what a key costs when it is loaded: its checks and tables.
func BenchmarkNew(b *testing.B) {
	for _, size := range sizes {
		key := testkeys.DSA(b, size[0], size[1])
		b.Run(fmt.Sprintf("%d-%d", size[0], size[1]), func(b *testing.B) {
			for b.Loop() {
				if _, err := dsasig.New(dsasig.ConvoKraft(), &key.PublicKey); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
