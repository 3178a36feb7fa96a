// Package dsafast verifies DSA signatures with tables that are made once for
// each public key, six to eight times as fast as crypto/dsa and without
// allocating. Verification handles public numbers only, and its duration
// depends on them: nothing here is fit for signing.
//
// # What is computed
//
// As FIPS 186-4, section 4.7, has it: z is the digest, w = 1/s mod q,
// u1 = z·w mod q, u2 = r·w mod q, and the signature is valid if
// (g^u1·y^u2 mod p) mod q = r.
//
// # Powers
//
// A comb (Lim and Lee, More Flexible Exponentiation with Precomputation, 1994)
// gives both powers at once. N is the length of q in bits, span = ⌈N/8⌉, and
// bit number t·span + b·steps + i of an exponent, with b·steps + i < span,
// belongs to tooth t of eight, to block b and to step i: every bit to exactly
// one. For g, and likewise for y, block b has a table with, for e from 1 to 255
// with the bits e_t,
//
//	T_b[e] = Π_t g^(e_t·2^(t·span + b·steps)) mod p,
//
// so that g^u = Π_i (Π_b T_b[e_b,i])^(2^i), where e_b,i are the eight bits of u
// that belong to block b and step i. Going through the steps downwards, an
// accumulator is squared and then multiplied by the entries of every block for
// g and for y: 2·span multiplications and steps-1 squarings, where crypto/dsa
// makes 2.5·N multiplications or more.
//
// # Reduction
//
// Products are reduced by folding, for which math/big has all it takes in
// assembly. W is the word's length in bits, n is p's length in words. For a
// position s > n, with hi and lo the words of x from s on and those before,
//
//	x = hi·2^(W·s) + lo ≡ hi·c + lo mod p,  c = 2^(W·s) mod p.
//
// Since c < p < 2^(W·n) < 2^(W·s), a fold makes x smaller. It is repeated until
// x has at most s words, and then done at the next position; the last position
// is n+slack. So whatever the operands were, the product's residue mod p is
// unchanged, and it has at most n+slack words: an accumulator cannot grow.
//
// No fold is repeated more than once. If x has at most m words, s is chosen to
// be at least (m+n)/2, so that (hi+1)·c < 2^(W·(m-s+n)) ≤ 2^(W·s). The first
// fold leaves less than 2·2^(W·s), so the second one finds hi = 1 and leaves
//
//	lo + hi·c - 2^(W·s) + c < (hi+1)·c < 2^(W·s),
//
// with the first one's hi and lo.
//
// Folded numbers are not the least residues. Entries of tables and the result
// of g^u1·y^u2 are made so by a division with remainder.
package dsafast

import (
	"crypto/dsa" //lint:ignore SA1019 the sender signs with DSA and offers nothing else
	"math/big"
	"math/bits"
	"sync"
)

const (
	// teeth is how many bits of an exponent one entry of a table stands for.
	teeth = 8
	// entries is how many of them a table has: there is none for no bit set.
	entries = 1<<teeth - 1
	// slack is by how many words a folded number may be longer than p. With
	// fewer there are more folds, with more there are longer operands.
	slack = 3
	// tableBits limits the tables to 384 KiB: g and y have at most tableBits/L
	// blocks each, where L is p's length in bits.
	tableBits = 6 * 1024
)

// Key is a public key with its tables. It does not change, and its method may
// be called concurrently.
type Key struct {
	p, q   *big.Int
	qWords uint256  // q
	size   int      // q's length in bytes
	scale  *big.Int // 2^(-2·N) mod q

	n     int // p's length in words
	folds []fold

	span, steps, blocks int
	// table has the tables of g's blocks and then those of y's, every entry in
	// n words.
	table []big.Word
}

// fold is a position to fold at and what it folds with.
type fold struct {
	at int
	c  *big.Int // 2^(W·at) mod p
}

// New makes the tables, in some milliseconds. It keeps no part of pub. The
// caller has checked pub: p and q have (1024, 160), (2048, 224), (2048, 256) or
// (3072, 256) bits and are prime, q divides p-1, and g and y lie between 1 and
// p and have order q. With other keys New or Verify may panic or not return, or
// the verdict be wrong.
func New(pub *dsa.PublicKey) *Key {
	p, q := new(big.Int).Set(pub.P), new(big.Int).Set(pub.Q)
	length := q.BitLen()
	span := (length + teeth - 1) / teeth
	steps := (span*p.BitLen() + tableBits - 1) / tableBits
	blocks := (span + steps - 1) / steps
	k := &Key{
		p: p, q: q, qWords: load(q.Bytes()), size: length / 8,
		scale: new(big.Int).ModInverse(power2(2*length), q),
		n:     len(p.Bits()),
		span:  span, steps: steps, blocks: blocks,
	}
	for m := 2 * (k.n + slack); m > k.n+slack; {
		m = max((m+k.n+1)/2, k.n+slack)
		c := power2(m * bits.UintSize)
		k.folds = append(k.folds, fold{m, c.Mod(c, p)})
	}
	k.table = make([]big.Word, 2*blocks*entries*k.n)
	k.fill(0, pub.G)
	k.fill(blocks, pub.Y)
	return k
}

func power2(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(n)) }

// fill makes the tables of base, which are those of the blocks from first on.
func (k *Key) fill(first int, base *big.Int) {
	t := pool.Get().(*scratch)
	defer pool.Put(t)
	power, next := &t.acc, &t.next // power ≡ base^(2^j)
	power.Set(base)
	for j := range teeth * k.span {
		tooth, row := j/k.span, j%k.span
		if row%k.steps == 0 {
			block := first + row/k.steps
			copy(k.entry(block, 1<<tooth), t.mod(next, power, k.p).Bits())
			for e := 1; e < 1<<tooth; e++ {
				t.entry.SetBits(k.entry(block, e))
				t.mul(k, next, power, &t.entry)
				copy(k.entry(block, 1<<tooth+e), t.mod(next, next, k.p).Bits())
			}
		}
		t.mul(k, next, power, power)
		power, next = next, power
	}
}

// entry returns the words of entry e of a block's table.
func (k *Key) entry(block, e int) []big.Word {
	i := (block*entries + e - 1) * k.n
	return k.table[i : i+k.n]
}

// Verify reports whether r and s, big-endian and of at most q's length in
// bytes, are a signature over digest, of which it takes as many bytes from the
// left as q has. It gives the verdict of crypto/dsa.Verify.
func (k *Key) Verify(digest, r, s []byte) bool {
	if len(r) > k.size || len(s) > k.size {
		return false
	}
	t := pool.Get().(*scratch)
	defer pool.Put(t)
	t.r.SetBytes(r)
	t.s.SetBytes(s)
	if t.r.Sign() == 0 || t.r.Cmp(k.q) >= 0 || t.s.Sign() == 0 || t.s.Cmp(k.q) >= 0 {
		return false
	}
	w := t.inverse(k, s)
	t.z.SetBytes(digest[:min(len(digest), k.size)])
	t.mod(&t.u1, t.next.Mul(&t.z, w), k.q)
	t.mod(&t.u2, t.next.Mul(&t.r, w), k.q)
	v := t.powers(k)
	return t.mod(v, t.mod(v, v, k.p), k.q).Cmp(&t.r) == 0
}

// scratch is what one call of Verify works with. Its numbers grow to the
// length they need, and then nothing is allocated any more.
type scratch struct {
	r, s, z, w, u1, u2 big.Int
	acc, next          big.Int
	// entry, hi and lo share their words with others, and are only read.
	entry, hi, lo big.Int
	product, quo  big.Int
	buf           [32]byte
}

var pool = sync.Pool{New: func() any { return new(scratch) }}

// powers returns a number congruent to g^u1·y^u2 mod p.
func (t *scratch) powers(k *Key) *big.Int {
	acc, next := &t.acc, &t.next
	acc.SetUint64(1)
	for i := k.steps - 1; i >= 0; i-- {
		t.mul(k, next, acc, acc)
		acc, next = next, acc
		for block := range 2 * k.blocks {
			u, row := &t.u1, block*k.steps+i
			if block >= k.blocks {
				u, row = &t.u2, (block-k.blocks)*k.steps+i
			}
			if row >= k.span {
				continue
			}
			var e uint
			for j := row + (teeth-1)*k.span; j >= 0; j -= k.span {
				e = e<<1 | u.Bit(j)
			}
			if e == 0 {
				continue
			}
			t.entry.SetBits(k.entry(block, int(e)))
			t.mul(k, next, acc, &t.entry)
			acc, next = next, acc
		}
	}
	return acc
}

// mul sets z to a number of at most k.n+slack words that is congruent to x·y
// mod p. x and y may be the same, but neither may be z.
func (t *scratch) mul(k *Key, z, x, y *big.Int) {
	z.Mul(x, y)
	for _, f := range k.folds {
		for words := z.Bits(); len(words) > f.at; words = z.Bits() {
			t.hi.SetBits(words[f.at:])
			t.lo.SetBits(words[:f.at])
			z.Add(&t.lo, t.product.Mul(&t.hi, f.c))
		}
	}
}

// mod sets z to x mod m and returns it. x is not negative, and may be z.
func (t *scratch) mod(z, x, m *big.Int) *big.Int {
	t.quo.QuoRem(x, m, z)
	return z
}

// inverse returns 1/s mod q.
func (t *scratch) inverse(k *Key, s []byte) *big.Int {
	x, e := almostInverse(k.qWords, load(s))
	x.store(&t.buf)
	t.w.SetBytes(t.buf[:])
	t.next.Lsh(&t.w, uint(2*8*k.size-e)) // times scale, that is times 2^-e
	return t.mod(&t.w, t.product.Mul(&t.next, k.scale), k.q)
}
