package dsafast

import (
	"math/big"
	"math/bits"
)

// TableBytes returns the length of the key's tables.
func (k *Key) TableBytes() int { return len(k.table) * bits.UintSize / 8 }

// MaxWords returns the length of the longest number that Mul takes and gives.
func (k *Key) MaxWords() int { return k.n + slack }

// Mul returns what mul makes of x and y, without the last division.
func (k *Key) Mul(x, y *big.Int) *big.Int {
	z := new(big.Int)
	new(scratch).mul(k, z, x, y)
	return z
}

// Powers returns g^u1·y^u2 mod p.
func (k *Key) Powers(u1, u2 *big.Int) *big.Int {
	t := new(scratch)
	t.u1.Set(u1)
	t.u2.Set(u2)
	return new(big.Int).Mod(t.powers(k), k.p)
}

// Inverse returns 1/s mod q.
func (k *Key) Inverse(s *big.Int) *big.Int {
	return new(scratch).inverse(k, s.FillBytes(make([]byte, k.size)))
}

// AlmostInverse returns almostInverse's results.
func AlmostInverse(q, s *big.Int) (w *big.Int, e int) {
	x, e := almostInverse(load(q.Bytes()), load(s.Bytes()))
	var buf [32]byte
	x.store(&buf)
	return new(big.Int).SetBytes(buf[:]), e
}
