package dsafast_test

import (
	"crypto/dsa" //lint:ignore SA1019 the reference that the package is compared with
	"crypto/rand"
	"fmt"
	"math/big"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/internal/dsafast"
	"github.com/hooktrust/hooktrust/internal/testkeys"
)

var one = big.NewInt(1)

// power2 returns 2^n+d.
func power2(n int, d int64) *big.Int {
	z := new(big.Int).Lsh(one, uint(n))
	return z.Add(z, big.NewInt(d))
}

func random(t testing.TB, limit *big.Int) *big.Int {
	t.Helper()
	x, err := rand.Int(rand.Reader, limit)
	require.NoError(t, err)
	return x
}

// moduli returns odd numbers of l bits that need not be prime: the extremes,
// those around other powers of two, and random ones.
func moduli(t *testing.T, l int) map[string]*big.Int {
	middle := power2(l-1, 1)
	middle.Add(middle, power2(l/2, 0))
	shortFold := power2(l, 1)
	shortFold.Sub(shortFold, power2(l-64, 0))
	m := map[string]*big.Int{
		"2^(l-1)+1":         power2(l-1, 1),
		"2^(l-1)+3":         power2(l-1, 3),
		"2^l-1":             power2(l, -1),
		"2^l-3":             power2(l, -3),
		"2^(l-1)+2^(l/2)+1": middle,
		"2^l-2^(l-64)+1":    shortFold,
		"key":               testkeys.DSA(t, l, map[int]int{1024: 160, 2048: 256, 3072: 256}[l]).P,
	}
	for i := range 3 {
		p := random(t, power2(l, 0))
		m[fmt.Sprintf("random %d", i)] = p.SetBit(p.SetBit(p, l-1, 1), 0, 1)
	}
	return m
}

// keyOver returns a Key for the arithmetic modulo p, which no DSA key has.
func keyOver(t *testing.T, p *big.Int) *dsafast.Key {
	q := testkeys.DSA(t, 2048, 256).Q
	return dsafast.New(&dsa.PublicKey{
		Parameters: dsa.Parameters{P: p, Q: q, G: random(t, p)}, Y: random(t, p),
	})
}

func TestMul(t *testing.T) {
	for _, l := range []int{1024, 2048, 3072} {
		for name, p := range moduli(t, l) {
			t.Run(fmt.Sprintf("%d/%s", l, name), func(t *testing.T) {
				t.Parallel()
				k := keyOver(t, p)
				maxBits := k.MaxWords() * bits.UintSize
				operands := []*big.Int{
					new(big.Int), one, big.NewInt(2),
					new(big.Int).Sub(p, one), p, new(big.Int).Add(p, one),
					power2(l, -1), power2(l, 0), power2(l, 1),
					power2(maxBits, -1), power2(maxBits-1, 0), power2(maxBits-bits.UintSize, 0),
					new(big.Int).Lsh(power2(maxBits/2, -1), uint(maxBits/2)),
				}
				for range 30 {
					operands = append(operands, random(t, p), random(t, power2(maxBits, 0)))
				}
				product := new(big.Int)
				check := func(x, y, got *big.Int) {
					require.LessOrEqual(t, len(got.Bits()), k.MaxWords(), "%x * %x mod %x", x, y, p)
					product.Mod(product.Mul(x, y), p)
					require.Zero(t, product.Cmp(new(big.Int).Mod(got, p)), "%x * %x mod %x", x, y, p)
				}
				for _, x := range operands {
					for _, y := range operands {
						check(x, y, k.Mul(x, y))
					}
				}
				// An accumulator never divided, from the greatest on.
				acc := power2(maxBits, -1)
				for i := range 500 {
					next := k.Mul(acc, acc)
					check(acc, acc, next)
					entry := operands[i%len(operands)]
					if entry.Cmp(p) < 0 && entry.Sign() > 0 {
						acc, next = next, k.Mul(next, entry)
						check(acc, entry, next)
					}
					acc = next
				}
			})
		}
	}
}

func TestPowers(t *testing.T) {
	for _, size := range sizes {
		t.Run(size.String(), func(t *testing.T) {
			t.Parallel()
			pub := testkeys.DSA(t, size.l, size.n).PublicKey
			k := dsafast.New(&pub)
			exponents := []*big.Int{new(big.Int), one, new(big.Int).Sub(pub.Q, one), power2(size.n, -1)}
			for i := range size.n {
				exponents = append(exponents, power2(i, 0))
			}
			for range 20 {
				exponents = append(exponents, random(t, pub.Q))
			}
			for i, u1 := range exponents {
				u2 := exponents[(7*i+1)%len(exponents)]
				want := new(big.Int).Exp(pub.G, u1, pub.P)
				want.Mod(want.Mul(want, new(big.Int).Exp(pub.Y, u2, pub.P)), pub.P)
				require.Zero(t, want.Cmp(k.Powers(u1, u2)), "u1 = %x, u2 = %x", u1, u2)
			}
		})
	}
}

func TestInverse(t *testing.T) {
	for _, n := range []int{160, 224, 256} {
		smallest, greatest := power2(n-1, 1), power2(n, -1)
		for !smallest.ProbablyPrime(20) {
			smallest.Add(smallest, big.NewInt(2))
		}
		for !greatest.ProbablyPrime(20) {
			greatest.Sub(greatest, big.NewInt(2))
		}
		l := map[int]int{160: 1024, 224: 2048, 256: 3072}[n]
		key := testkeys.DSA(t, l, n)
		for name, q := range map[string]*big.Int{"smallest": smallest, "greatest": greatest, "key": key.Q} {
			t.Run(fmt.Sprintf("%d/%s", n, name), func(t *testing.T) {
				t.Parallel()
				pub := key.PublicKey
				pub.Q = q
				k := dsafast.New(&pub)
				var values []*big.Int
				for d := range int64(50) {
					values = append(values, big.NewInt(d+1), new(big.Int).Sub(q, big.NewInt(d+1)),
						new(big.Int).Add(new(big.Int).Rsh(q, 1), big.NewInt(d-25)))
				}
				for i := range n {
					for d := int64(-1); d <= 1; d++ {
						x := power2(i, d)
						values = append(values, x, new(big.Int).Sub(q, x))
					}
				}
				for range 3000 {
					values = append(values, random(t, q))
				}
				compared := 0
				for _, s := range values {
					if s.Sign() <= 0 || s.Cmp(q) >= 0 {
						continue
					}
					require.Zero(t, new(big.Int).ModInverse(s, q).Cmp(k.Inverse(s)), "1/%x mod %x", s, q)
					w, e := dsafast.AlmostInverse(q, s)
					require.Less(t, w.Cmp(q), 0, "%x mod %x", s, q)
					require.Less(t, e, 2*n, "%x mod %x", s, q)
					compared++
				}
				assert.Greater(t, compared, 3500)
			})
		}
	}
}
