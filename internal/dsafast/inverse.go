package dsafast

import (
	"encoding/binary"
	"math/bits"
)

// uint256 is an integer of four words, the lowest first: a struct, since the
// compiler keeps no array in registers.
type uint256 struct{ a, b, c, d uint64 }

// load returns the integer in b, at most 32 bytes, big-endian.
func load(b []byte) uint256 {
	var buf [32]byte
	copy(buf[len(buf)-len(b):], b)
	return uint256{
		binary.BigEndian.Uint64(buf[24:]), binary.BigEndian.Uint64(buf[16:]),
		binary.BigEndian.Uint64(buf[8:]), binary.BigEndian.Uint64(buf[:]),
	}
}

// store is the inverse of load.
func (x uint256) store(buf *[32]byte) {
	binary.BigEndian.PutUint64(buf[24:], x.a)
	binary.BigEndian.PutUint64(buf[16:], x.b)
	binary.BigEndian.PutUint64(buf[8:], x.c)
	binary.BigEndian.PutUint64(buf[:], x.d)
}

// add returns x+y, which must be less than 2^256.
func (x uint256) add(y uint256) (z uint256) {
	var carry uint64
	z.a, carry = bits.Add64(x.a, y.a, 0)
	z.b, carry = bits.Add64(x.b, y.b, carry)
	z.c, carry = bits.Add64(x.c, y.c, carry)
	z.d, _ = bits.Add64(x.d, y.d, carry)
	return z
}

// sub returns x-y and false, or any number and true if that is negative.
func (x uint256) sub(y uint256) (z uint256, negative bool) {
	var borrow uint64
	z.a, borrow = bits.Sub64(x.a, y.a, 0)
	z.b, borrow = bits.Sub64(x.b, y.b, borrow)
	z.c, borrow = bits.Sub64(x.c, y.c, borrow)
	z.d, borrow = bits.Sub64(x.d, y.d, borrow)
	return z, borrow != 0
}

// lsh returns x·2^i, which must be less than 2^256, for 0 < i < 64.
func (x uint256) lsh(i int) uint256 {
	i, j := i&63, (64-i)&63 // the compiler then needs no test for i > 63
	return uint256{x.a << i, x.b<<i | x.a>>j, x.c<<i | x.b>>j, x.d<<i | x.c>>j}
}

// rsh returns ⌊x/2^i⌋ for 0 < i < 64.
func (x uint256) rsh(i int) uint256 {
	i, j := i&63, (64-i)&63
	return uint256{x.a>>i | x.b<<j, x.b>>i | x.c<<j, x.c>>i | x.d<<j, x.d >> i}
}

// almostInverse returns w and e with s·w ≡ 2^e mod q, for a prime q > 2 and
// 0 < s < q (Kaliski, The Montgomery Inverse and Its Applications, 1995). It
// has w < q and e < 2·N, where N is q's length in bits.
//
// It is the binary algorithm for the greatest common divisor of u = q and
// v = s, and keeps, with a sign σ that changes when u and v change places,
//
//	s·r ≡ -σ·u·2^e mod q,  s·t ≡ σ·v·2^e mod q,  u·t + v·r = q,
//
// so that r and t do not exceed q while u and v are positive. u is always odd.
// At the end v is 0, and u is the divisor, 1. The product u·v is less than
// 2^(2·N) at first, at least 1 before the last subtraction, and is halved e
// times; otherwise it only shrinks.
func almostInverse(q, s uint256) (w uint256, e int) {
	u, v := q, s
	r, t := uint256{}, uint256{a: 1}
	negative := true // σ = +1
	for v != (uint256{}) {
		for v.a&1 == 0 {
			i := min(bits.TrailingZeros64(v.a), 63)
			v, r, e = v.rsh(i), r.lsh(i), e+i
		}
		if d, less := v.sub(u); !less {
			v, t = d, t.add(r)
		} else {
			d, _ = u.sub(v)
			u, v, r, t = v, d, t, t.add(r)
			negative = !negative
		}
	}
	if negative {
		r, _ = q.sub(r)
	}
	return r, e
}
