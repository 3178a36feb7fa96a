package dsasig_test

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 the sender signs with DSA and offers nothing else
	"fmt"
	"math/big"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/internal/testkeys"
)

var one = big.NewInt(1)

// sizes are the accepted ones.
var sizes = [][2]int{{1024, 160}, {2048, 224}, {2048, 256}, {3072, 256}}

func add(x *big.Int, n int64) *big.Int { return new(big.Int).Add(x, big.NewInt(n)) }

func TestNewRefusesKeys(t *testing.T) {
	good := testkeys.DSA(t, 1024, 160).PublicKey
	bigger := testkeys.DSA(t, 2048, 224).PublicKey
	with := func(change func(*dsa.PublicKey)) *dsa.PublicKey {
		key := good
		change(&key)
		return &key
	}
	huge := new(big.Int).Lsh(one, 65_535)
	huge.SetBit(huge, 0, 1)
	nonResidue := big.NewInt(2) // has order q with probability 2^-864
	tests := []struct {
		name string
		key  *dsa.PublicKey
	}{
		{"nil", nil},
		{"zero value", &dsa.PublicKey{}},
		{"no p", with(func(k *dsa.PublicKey) { k.P = nil })},
		{"no q", with(func(k *dsa.PublicKey) { k.Q = nil })},
		{"no g", with(func(k *dsa.PublicKey) { k.G = nil })},
		{"no y", with(func(k *dsa.PublicKey) { k.Y = nil })},
		{"p = 0", with(func(k *dsa.PublicKey) { k.P = new(big.Int) })},
		{"q = 0", with(func(k *dsa.PublicKey) { k.Q = new(big.Int) })},
		{"p negative", with(func(k *dsa.PublicKey) { k.P = new(big.Int).Neg(k.P) })},
		{"q negative", with(func(k *dsa.PublicKey) { k.Q = new(big.Int).Neg(k.Q) })},
		{"p of 65536 bits", with(func(k *dsa.PublicKey) { k.P = huge })},
		{"q of 65536 bits", with(func(k *dsa.PublicKey) { k.Q = huge })},
		{"all of 65536 bits", &dsa.PublicKey{Parameters: dsa.Parameters{P: huge, Q: huge, G: huge}, Y: huge}},
		{"p of 1023 bits", with(func(k *dsa.PublicKey) { k.P = new(big.Int).Rsh(k.P, 1) })},
		{"sizes that do not belong together", with(func(k *dsa.PublicKey) { k.Q = bigger.Q })},
		{"512 bits", with(func(k *dsa.PublicKey) { k.P = new(big.Int).Rsh(k.P, 512) })},
		{"p even", with(func(k *dsa.PublicKey) { k.P = add(k.P, 1) })},
		{"q even", with(func(k *dsa.PublicKey) { k.Q = add(k.Q, 1) })},
		{"q does not divide p-1", with(func(k *dsa.PublicKey) { k.P = add(k.P, 2) })},
		{"p composite", with(func(k *dsa.PublicKey) { k.P = composite(k.P, k.Q) })},
		{"q composite", compositeQ(t)},
		{"g = 0", with(func(k *dsa.PublicKey) { k.G = new(big.Int) })},
		{"g = 1", with(func(k *dsa.PublicKey) { k.G = one })},
		{"g = p-1", with(func(k *dsa.PublicKey) { k.G = add(k.P, -1) })},
		{"g = p", with(func(k *dsa.PublicKey) { k.G = k.P })},
		{"g = p+1", with(func(k *dsa.PublicKey) { k.G = add(k.P, 1) })},
		{"g negative", with(func(k *dsa.PublicKey) { k.G = new(big.Int).Neg(k.G) })},
		{"g of another order", with(func(k *dsa.PublicKey) { k.G = nonResidue })},
		{"y = 0", with(func(k *dsa.PublicKey) { k.Y = new(big.Int) })},
		{"y = 1", with(func(k *dsa.PublicKey) { k.Y = one })},
		{"y = p-1", with(func(k *dsa.PublicKey) { k.Y = add(k.P, -1) })},
		{"y = p", with(func(k *dsa.PublicKey) { k.Y = k.P })},
		{"y beyond p", with(func(k *dsa.PublicKey) { k.Y = new(big.Int).Add(k.P, k.Y) })},
		{"y negative", with(func(k *dsa.PublicKey) { k.Y = new(big.Int).Neg(k.Y) })},
		{"y of another order", with(func(k *dsa.PublicKey) { k.Y = nonResidue })},
		{"g = y = 1", with(func(k *dsa.PublicKey) { k.G, k.Y = one, one })},
	}
	v, err := dsasig.New(dsasig.ConvoKraft(), &good)
	require.NoError(t, err)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dsasig.New(dsasig.ConvoKraft(), tt.key)
			require.Error(t, err)
			assert.Nil(t, got)
			assert.Error(t, v.SetKeys(&good, tt.key))
		})
	}
	got, err := dsasig.New(dsasig.ConvoKraft())
	assert.Error(t, err)
	assert.Nil(t, got)
}

// composite returns the next number after p of its length that has q as a
// divisor of its predecessor, and is not prime.
func composite(p, q *big.Int) *big.Int {
	step := new(big.Int).Lsh(q, 1)
	c := new(big.Int).Add(p, step)
	for c.ProbablyPrime(0) {
		c.Add(c, step)
	}
	return c
}

// compositeQ returns a key that is right but for its q, a product of two
// primes that divides p-1.
func compositeQ(t *testing.T) *dsa.PublicKey {
	a := nextPrime(new(big.Int).Lsh(big.NewInt(15), 76), big.NewInt(1))
	b := nextPrime(add(a, 1), big.NewInt(1))
	q := new(big.Int).Mul(a, b)
	require.Equal(t, 160, q.BitLen())
	step := new(big.Int).Lsh(q, 1)
	p := new(big.Int).Lsh(one, 1023)
	p.Sub(p, new(big.Int).Mod(p, step)).Add(p, step).Add(p, one)
	p = nextPrime(p, step)
	require.Equal(t, 1024, p.BitLen())
	cofactor := new(big.Int).Div(add(p, -1), q)
	g := new(big.Int).Exp(big.NewInt(2), cofactor, p)
	require.Equal(t, one, new(big.Int).Exp(g, q, p))
	return &dsa.PublicKey{Parameters: dsa.Parameters{P: p, Q: q, G: g}, Y: new(big.Int).Exp(g, big.NewInt(77), p)}
}

// nextPrime returns the first prime among n, n+step, n+2·step, …
func nextPrime(n, step *big.Int) *big.Int {
	n = new(big.Int).Set(n)
	for !n.ProbablyPrime(0) {
		n.Add(n, step)
	}
	return n
}

// TestForgery: under g = y = 1 crypto/dsa accepts r = s = 1 for any body, so
// such a key must never be in use.
func TestForgery(t *testing.T) {
	key := testkeys.DSA(t, 1024, 160).PublicKey
	key.G, key.Y = one, one
	require.True(t, dsa.Verify(&key, []byte("any"), one, one), "the premise")
	_, err := dsasig.New(dsasig.ConvoKraft(), &key)
	assert.Error(t, err)
}

func TestNewSchemes(t *testing.T) {
	key := testkeys.DSA(t, 1024, 160)
	tests := []struct {
		name   string
		change func(*dsasig.Scheme)
	}{
		{"no header", func(s *dsasig.Scheme) { s.Header = "" }},
		{"bad prefix", func(s *dsasig.Scheme) { s.Prefix = "dsa\n" }},
		{"no hash", func(s *dsasig.Scheme) { s.Hash = 0 }},
		{"MD5", func(s *dsasig.Scheme) { s.Hash = crypto.MD5 }},
		{"unknown encoding", func(s *dsasig.Scheme) { s.Encoding = 2 }},
		{"unknown format", func(s *dsasig.Scheme) { s.Format = 2 }},
		{"negative format", func(s *dsasig.Scheme) { s.Format = -1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := dsasig.ConvoKraft()
			tt.change(&s)
			_, err := dsasig.New(s, &key.PublicKey)
			assert.Error(t, err)
			_, err = dsasig.Sign(s, key, nil)
			assert.Error(t, err)
		})
	}
}

func TestSignRefuses(t *testing.T) {
	good := testkeys.DSA(t, 1024, 160)
	degenerate := good.PublicKey
	degenerate.G, degenerate.Y = one, one
	for name, key := range map[string]*dsa.PrivateKey{
		"degenerate":      {PublicKey: degenerate, X: one},
		"nil":             nil,
		"zero value":      {},
		"no private part": {PublicKey: good.PublicKey},
		"x = 0":           {PublicKey: good.PublicKey, X: new(big.Int)},
		"x negative":      {PublicKey: good.PublicKey, X: big.NewInt(-1)},
	} {
		_, err := dsasig.Sign(dsasig.ConvoKraft(), key, nil)
		assert.Error(t, err, name)
	}
}

// TestSchemes signs and verifies under every hash, encoding and format at
// every size, among them the digests that are longer than q, which crypto/dsa
// does not cut.
func TestSchemes(t *testing.T) {
	body := []byte(`{"todo":"prompt"}`)
	for _, size := range sizes {
		key, other := testkeys.DSA(t, size[0], size[1]), testkeys.DSA(t, size[0], size[1])
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			for _, encoding := range []dsasig.Encoding{dsasig.Hex, dsasig.Base64} {
				for _, format := range []dsasig.Format{dsasig.DER, dsasig.P1363} {
					name := fmt.Sprint(size, hash, encoding, format)
					s := dsasig.Scheme{Header: "X-Sig", Hash: hash, Encoding: encoding, Format: format}
					v, err := dsasig.New(s, &key.PublicKey)
					require.NoError(t, err, name)
					value, err := dsasig.Sign(s, key, body)
					require.NoError(t, err, name)
					assert.NoError(t, v.Verify(body, http.Header{"X-Sig": {value}}), name)
					value, err = dsasig.Sign(s, other, body)
					require.NoError(t, err, name)
					assert.ErrorIs(t, v.Verify(body, http.Header{"X-Sig": {value}}), dsasig.ErrMismatch, name)
				}
			}
		}
	}
}

func TestNewCopiesKeys(t *testing.T) {
	key := testkeys.DSA(t, 1024, 160)
	clone := func(x *big.Int) *big.Int { return new(big.Int).Set(x) }
	public := dsa.PublicKey{Parameters: dsa.Parameters{P: clone(key.P), Q: clone(key.Q), G: clone(key.G)}, Y: clone(key.Y)}
	v, err := dsasig.New(dsasig.ConvoKraft(), &public)
	require.NoError(t, err)
	for _, x := range []*big.Int{public.P, public.Q, public.G, public.Y} {
		x.SetInt64(1)
	}
	value, err := dsasig.Sign(dsasig.ConvoKraft(), key, nil)
	require.NoError(t, err)
	assert.NoError(t, v.Verify(nil, http.Header{"X-Convokraft-Signature": {value}}))
}

// TestKeysOfSeveralSizes: P1363 tells the size of q, and a signature of a size
// that no key has is malformed.
func TestKeysOfSeveralSizes(t *testing.T) {
	s := dsasig.ConvoKraft()
	s.Format = dsasig.P1363
	small, medium, large := testkeys.DSA(t, 1024, 160), testkeys.DSA(t, 2048, 224), testkeys.DSA(t, 3072, 256)
	v, err := dsasig.New(s, &small.PublicKey, &large.PublicKey)
	require.NoError(t, err)
	for i, key := range []*dsa.PrivateKey{small, large} {
		value, err := dsasig.Sign(s, key, nil)
		require.NoError(t, err)
		got, err := v.VerifyKey(nil, http.Header{"X-Convokraft-Signature": {value}})
		require.NoError(t, err)
		assert.Equal(t, i, got)
	}
	value, err := dsasig.Sign(s, medium, nil)
	require.NoError(t, err)
	assert.ErrorIs(t, v.Verify(nil, http.Header{"X-Convokraft-Signature": {value}}), dsasig.ErrMalformed)
}

func TestVerifyDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops what it is given")
	}
	body := []byte(`{"todo":"prompt"}`)
	for _, size := range sizes {
		for _, format := range []dsasig.Format{dsasig.DER, dsasig.P1363} {
			key, other := testkeys.DSA(t, size[0], size[1]), testkeys.DSA(t, size[0], size[1])
			s := dsasig.ConvoKraft()
			s.Format = format
			v, err := dsasig.New(s, &other.PublicKey, &key.PublicKey)
			require.NoError(t, err)
			value, err := dsasig.Sign(s, key, body)
			require.NoError(t, err)
			header := http.Header{"X-Convokraft-Signature": {value}}
			allocs := testing.AllocsPerRun(500, func() {
				if v.Verify(body, header) != nil {
					panic("refused")
				}
			})
			require.Zero(t, allocs, "%v, format %d", size, format)
		}
	}
}
