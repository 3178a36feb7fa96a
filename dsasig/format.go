package dsasig

import (
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxSignature is the length in bytes of the longest signature by a q of 256
// bits: DER, two INTEGERs with a sign byte each.
const maxSignature = 2 + 2*(2+1+32)

// split takes the integers out of a signature by a q of size bytes. It does
// not look at their range.
func (f Format) split(sig []byte, size int) (r, s *big.Int, ok bool) {
	if f == P1363 {
		if len(sig) != 2*size {
			return nil, nil, false
		}
		return new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]), true
	}
	if len(sig) > 2+2*(2+1+size) {
		return nil, nil, false
	}
	// encoding/asn1 would not do: it ignores what follows s in the SEQUENCE.
	r, s = new(big.Int), new(big.Int)
	in := cryptobyte.String(sig)
	var seq cryptobyte.String
	ok = in.ReadASN1(&seq, asn1.SEQUENCE) && in.Empty() &&
		seq.ReadASN1Integer(r) && seq.ReadASN1Integer(s) && seq.Empty()
	return r, s, ok
}

// join is the inverse of split.
func (f Format) join(r, s *big.Int, size int) []byte {
	if f == P1363 {
		sig := make([]byte, 2*size)
		r.FillBytes(sig[:size])
		s.FillBytes(sig[size:])
		return sig
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r)
		b.AddASN1BigInt(s)
	})
	return b.BytesOrPanic()
}
