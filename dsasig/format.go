package dsasig

import (
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxSignature is the length in bytes of the longest signature by a q of 256
// bits: DER, two INTEGERs with a sign byte each.
const maxSignature = 2 + 2*(2+1+32)

// split takes the integers out of a signature by a q of size bytes, as
// big-endian bytes. It does not look at their range, but for one that is
// negative, which it returns as 0: neither can be part of a signature.
func (f Format) split(sig []byte, size int) (r, s []byte, ok bool) {
	if f == P1363 {
		if len(sig) != 2*size {
			return nil, nil, false
		}
		return sig[:size], sig[size:], true
	}
	if len(sig) > 2+2*(2+1+size) {
		return nil, nil, false
	}
	// encoding/asn1 would not do: it ignores what follows s in the SEQUENCE.
	in := cryptobyte.String(sig)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() {
		return nil, nil, false
	}
	r, rOK := integer(&seq)
	s, sOK := integer(&seq)
	return r, s, rOK && sOK && seq.Empty()
}

// integer reads an INTEGER and returns its bytes without a sign byte.
func integer(seq *cryptobyte.String) ([]byte, bool) {
	var content cryptobyte.String
	if !seq.ReadASN1(&content, asn1.INTEGER) || len(content) == 0 {
		return nil, false
	}
	// X.690, section 8.3.2: the first nine bits are not all the same.
	if len(content) > 1 && (content[0] == 0 && content[1] < 0x80 || content[0] == 0xff && content[1] >= 0x80) {
		return nil, false
	}
	switch {
	case content[0] >= 0x80: // negative
		return nil, true
	case content[0] == 0:
		return content[1:], true
	}
	return content, true
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
