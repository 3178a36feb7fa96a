package dsafast_test

import (
	"bytes"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 the reference that the package is compared with
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	_ "crypto/sha1"
	_ "crypto/sha512"

	"github.com/hooktrust/hooktrust/internal/dsafast"
	"github.com/hooktrust/hooktrust/internal/keytext"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/testdata"
)

// size is the lengths in bits of a key's p and q.
type size struct{ l, n int }

func (s size) String() string { return fmt.Sprintf("%d-%d", s.l, s.n) }

var sizes = []size{{1024, 160}, {2048, 224}, {2048, 256}, {3072, 256}}

// pair is a key for both implementations.
type pair struct {
	pub  *dsa.PublicKey
	fast *dsafast.Key
}

func newPair(pub *dsa.PublicKey) pair { return pair{pub, dsafast.New(pub)} }

// stored returns the key of that name in testdata.
func stored(t testing.TB, name string) pair {
	t.Helper()
	text, err := testdata.PublicKey(name)
	require.NoError(t, err)
	pub, err := keytext.DSA(text)
	require.NoError(t, err)
	return newPair(pub)
}

func (p pair) size() int { return p.pub.Q.BitLen() / 8 }

// compare requires both implementations to agree and returns their verdict.
func (p pair) compare(t testing.TB, digest []byte, r, s *big.Int) bool {
	t.Helper()
	want := dsa.Verify(p.pub, digest[:min(len(digest), p.size())], r, s)
	got := want
	if r.BitLen() <= 8*p.size() && s.BitLen() <= 8*p.size() {
		got = p.fast.Verify(digest, r.FillBytes(make([]byte, p.size())), s.FillBytes(make([]byte, p.size())))
	}
	require.Equal(t, want, got, "crypto/dsa and dsafast: p %x\nq %x\ng %x\ny %x\ndigest %x\nr %x\ns %x",
		p.pub.P, p.pub.Q, p.pub.G, p.pub.Y, digest, r, s)
	return got
}

func sign(t testing.TB, key *dsa.PrivateKey, digest []byte) (r, s *big.Int) {
	t.Helper()
	r, s, err := dsa.Sign(rand.Reader, key, digest[:min(len(digest), key.Q.BitLen()/8)])
	require.NoError(t, err)
	return r, s
}

var hashes = map[string]crypto.Hash{
	"SHA1": crypto.SHA1, "SHA224": crypto.SHA224, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
}

// split reads a vector's signature by a q of size bytes. It is false if that
// is not two integers.
func split(c testdata.Case, size int) (r, s *big.Int, ok bool) {
	value, found := strings.CutPrefix(c.Value, c.Prefix)
	decode := base64.StdEncoding.Strict().DecodeString
	if c.Encoding == "hex" {
		decode = hex.DecodeString
	}
	sig, err := decode(value)
	if !found || err != nil || strings.ContainsAny(value, "\r\n") {
		return nil, nil, false
	}
	if c.Format == "p1363" {
		if len(sig) != 2*size {
			return nil, nil, false
		}
		return new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]), true
	}
	r, s = new(big.Int), new(big.Int)
	in, seq := cryptobyte.String(sig), cryptobyte.String(nil)
	ok = in.ReadASN1(&seq, asn1.SEQUENCE) && in.Empty() &&
		seq.ReadASN1Integer(r) && seq.ReadASN1Integer(s) && seq.Empty() &&
		r.Sign() >= 0 && s.Sign() >= 0
	return r, s, ok
}

// TestVectors compares the implementations over the signatures that Java and
// OpenSSL made or that were published.
func TestVectors(t *testing.T) {
	cases, err := testdata.Cases()
	require.NoError(t, err)
	keys := make(map[string]pair)
	compared, accepted, skipped := 0, 0, 0
	for _, c := range cases {
		if c.Kind != "dsa" {
			continue
		}
		p, known := keys[c.Key]
		if !known {
			p = stored(t, c.Key)
			keys[c.Key] = p
		}
		body, err := c.BodyBytes()
		require.NoError(t, err, c.Name)
		hash := hashes[c.Hash].New()
		hash.Write(body)
		r, s, ok := split(c, p.size())
		if !ok || r.BitLen() > 8*p.size() || s.BitLen() > 8*p.size() {
			assert.NotEqual(t, "ok", c.Want, c.Name)
			skipped++
			continue
		}
		compared++
		valid := p.compare(t, hash.Sum(nil), r, s)
		assert.Equal(t, c.Want == "ok", valid, "%s (%s)", c.Name, c.Why)
		if valid {
			accepted++
		}
	}
	t.Logf("%d compared, %d of them accepted; %d are not two integers", compared, accepted, skipped)
	assert.GreaterOrEqual(t, compared, 300)
	assert.GreaterOrEqual(t, accepted, 150)
}

// flip returns x with one random bit of its lowest n flipped.
func flip(x *big.Int, n int) *big.Int {
	i := mathrand.IntN(n)
	return new(big.Int).SetBit(x, i, x.Bit(i)^1)
}

// TestRandomKeys compares the implementations over new keys, 1,000 of each
// size; 200 under the race detector, which finds nothing here; 50 with -short.
func TestRandomKeys(t *testing.T) {
	count := 1000
	switch {
	case testing.Short():
		count = 50
	case raceEnabled:
		count = 200
	}
	for _, size := range sizes {
		t.Run(size.String(), func(t *testing.T) {
			t.Parallel()
			compared, accepted := 0, 0
			for range count {
				key := testkeys.DSA(t, size.l, size.n)
				p := newPair(&key.PublicKey)
				digest := make([]byte, 32)
				_, err := rand.Read(digest)
				require.NoError(t, err)
				r, s := sign(t, key, digest)
				require.True(t, p.compare(t, digest, r, s))

				altered := bytes.Clone(digest)
				i := mathrand.IntN(size.n)
				altered[i/8] ^= 1 << (i % 8)
				require.False(t, p.compare(t, altered, r, s))

				q := p.pub.Q
				minus, plus := new(big.Int).Sub(q, one), new(big.Int).Add(q, one)
				ones, zero := power2(size.n, -1), new(big.Int)
				for _, sig := range [][2]*big.Int{
					{flip(r, size.n), s}, {r, flip(s, size.n)}, {s, r}, {r, r}, {s, s},
					{zero, s}, {q, s}, {plus, s}, {minus, s}, {ones, s}, {one, s},
					{r, zero}, {r, q}, {r, plus}, {r, minus}, {r, ones}, {r, one},
					{new(big.Int).Add(r, q), s}, {r, new(big.Int).Add(s, q)},
					{one, zero}, {one, q}, {zero, zero}, // 1 is what u1 = u2 = 0 gives
				} {
					if p.compare(t, digest, sig[0], sig[1]) {
						accepted++
					}
					compared++
				}
				// (r, -s) is what y's inverse would sign, not y.
				require.False(t, p.compare(t, digest, r, new(big.Int).Sub(q, s)))
				compared += 3
			}
			t.Logf("%d keys, %d verdicts compared", count, compared)
			assert.Zero(t, accepted, "tampered signatures accepted")
		})
	}
}

func TestDigests(t *testing.T) {
	long := bytes.Repeat([]byte{0xff}, 64)
	for _, size := range sizes {
		key := testkeys.DSA(t, size.l, size.n)
		p := newPair(&key.PublicKey)
		for name, digest := range map[string][]byte{
			"nil": nil, "empty": {}, "one byte": {7}, "one byte 0": {0},
			"all zero": make([]byte, size.n/8), "all ones": long[:size.n/8],
			"one byte less":    long[:size.n/8-1],
			"one byte more":    long[:size.n/8+1],
			"long":             long,
			"zero, then long":  append(make([]byte, size.n/8), long...),
			"q":                p.pub.Q.Bytes(),
			"q and more":       append(p.pub.Q.Bytes(), 1),
			"q less 1":         new(big.Int).Sub(p.pub.Q, one).Bytes(),
			"sixty-four zeros": make([]byte, 64),
		} {
			t.Run(size.String()+"/"+name, func(t *testing.T) {
				r, s := sign(t, key, digest)
				assert.True(t, p.compare(t, digest, r, s))
				assert.False(t, p.compare(t, append([]byte{1}, digest...), r, s))
				assert.False(t, p.compare(t, digest, r, flip(s, size.n)))
			})
		}
	}
}

// TestRange gives r and s that only the check of their range can refuse: over a
// g that is q, which no DSA key has, u1 = 1 and u2 = 0 give v = 0, and thus r.
func TestRange(t *testing.T) {
	for _, size := range sizes {
		pub := testkeys.DSA(t, size.l, size.n).PublicKey
		pub.G = pub.Q
		p := newPair(&pub)
		digest := bytes.Repeat([]byte{7}, size.n/8)
		assert.False(t, p.compare(t, digest, new(big.Int), new(big.Int).SetBytes(digest)))
		assert.False(t, p.compare(t, digest, one, new(big.Int)))
		assert.False(t, p.compare(t, digest, one, pub.Q))
		assert.False(t, p.compare(t, digest, pub.Q, one))
	}
}

// TestLengths gives r and s in other lengths than q's.
func TestLengths(t *testing.T) {
	key := testkeys.DSA(t, 2048, 224)
	k := dsafast.New(&key.PublicKey)
	digest := []byte("digest")
	var r, s *big.Int
	for r == nil || len(r.Bytes()) == 28 || len(s.Bytes()) != 28 {
		r, s = sign(t, key, digest)
	}
	full := r.FillBytes(make([]byte, 28))
	assert.True(t, k.Verify(digest, full, s.Bytes()))
	assert.True(t, k.Verify(digest, r.Bytes(), s.Bytes()), "without leading zeros")
	assert.False(t, k.Verify(digest, append([]byte{0}, full...), s.Bytes()), "longer than q")
	assert.False(t, k.Verify(digest, full, append([]byte{0}, s.Bytes()...)), "longer than q")
	assert.False(t, k.Verify(digest, nil, s.Bytes()))
	assert.False(t, k.Verify(digest, full, nil))
	assert.False(t, k.Verify(nil, nil, nil))
}

// TestNewCopies changes the caller's key after New.
func TestNewCopies(t *testing.T) {
	key := testkeys.DSA(t, 1024, 160)
	digest := []byte("digest")
	r, s := sign(t, key, digest)
	k := dsafast.New(&key.PublicKey)
	for _, x := range []*big.Int{key.P, key.Q, key.G, key.Y} {
		clear(x.Bits())
		x.SetInt64(1)
	}
	assert.True(t, k.Verify(digest, r.FillBytes(make([]byte, 20)), s.FillBytes(make([]byte, 20))))
}

func TestTableBytes(t *testing.T) {
	for _, size := range sizes {
		got := dsafast.New(&testkeys.DSA(t, size.l, size.n).PublicKey).TableBytes()
		assert.LessOrEqual(t, got, 384<<10, "%v", size)
	}
}

// TestConcurrent shares keys of all sizes, and with them what calls work with.
func TestConcurrent(t *testing.T) {
	type job struct {
		key          *dsafast.Key
		digest, r, s []byte
		want         bool
	}
	var jobs []job
	for _, size := range sizes {
		key := testkeys.DSA(t, size.l, size.n)
		k := dsafast.New(&key.PublicKey)
		for i := range byte(4) {
			digest := sha256.Sum256([]byte{i})
			r, s := sign(t, key, digest[:])
			rBytes, sBytes := r.FillBytes(make([]byte, size.n/8)), s.FillBytes(make([]byte, size.n/8))
			jobs = append(jobs, job{k, digest[:], rBytes, sBytes, true}, job{k, digest[1:], rBytes, sBytes, false})
		}
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 10 * len(jobs) {
				j := jobs[(g+i)%len(jobs)]
				if !assert.Equal(t, j.want, j.key.Verify(j.digest, j.r, j.s)) {
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestVerifyDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool drops what it is given at random")
	}
	for _, size := range sizes {
		key := testkeys.DSA(t, size.l, size.n)
		k := dsafast.New(&key.PublicKey)
		digest := sha256.Sum256(nil)
		r, s := sign(t, key, digest[:])
		rBytes, sBytes := r.FillBytes(make([]byte, size.n/8)), s.FillBytes(make([]byte, size.n/8))
		for name, f := range map[string]func() bool{
			"valid":        func() bool { return k.Verify(digest[:], rBytes, sBytes) },
			"invalid":      func() bool { return !k.Verify(digest[1:], rBytes, sBytes) },
			"out of range": func() bool { return !k.Verify(digest[:], rBytes, nil) },
		} {
			ok := true
			allocs := testing.AllocsPerRun(200, func() { ok = ok && f() })
			assert.True(t, ok, "%v %s", size, name)
			assert.Zero(t, allocs, "%v %s", size, name)
		}
	}
}

// fuzzKeys are the keys that FuzzVerify chooses from. The seeds in testdata
// name them by their place.
var fuzzKeys = []string{
	"dsa1024-160-java-a", "dsa2048-224-java-a", "dsa2048-256-java-a", "dsa3072-256-java-a",
	"dsa1024-160-openssl", "dsa2048-224-openssl", "dsa2048-256-openssl", "dsa3072-256-openssl",
}

// FuzzVerify compares the implementations over any digest, r and s.
func FuzzVerify(f *testing.F) {
	pairs := make([]pair, len(fuzzKeys))
	for i, name := range fuzzKeys {
		pairs[i] = stored(f, name)
		q := pairs[i].pub.Q
		f.Add(byte(i), []byte("digest"), q.Bytes(), one.Bytes())
		f.Add(byte(i), []byte(nil), one.Bytes(), new(big.Int).Sub(q, one).Bytes())
		f.Add(byte(i), q.Bytes(), new(big.Int).Rsh(q, 1).Bytes(), []byte{0, 2})
	}
	f.Fuzz(func(t *testing.T, key byte, digest, r, s []byte) {
		p := pairs[int(key)%len(pairs)]
		if len(r) > p.size() || len(s) > p.size() {
			require.False(t, p.fast.Verify(digest, r, s))
			return
		}
		want := dsa.Verify(p.pub, digest[:min(len(digest), p.size())], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
		require.Equal(t, want, p.fast.Verify(digest, r, s))
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range sizes {
		key := testkeys.DSA(b, size.l, size.n)
		p := newPair(&key.PublicKey)
		const count = 64 // else the processor learns one signature's branches
		var digests, rBytes, sBytes [count][]byte
		var rs, ss [count]*big.Int
		for i := range count {
			digest := sha256.Sum256([]byte{byte(i)})
			digests[i] = digest[:p.size()]
			rs[i], ss[i] = sign(b, key, digests[i])
			rBytes[i] = rs[i].FillBytes(make([]byte, p.size()))
			sBytes[i] = ss[i].FillBytes(make([]byte, p.size()))
		}
		bench := func(name string, verify func(i int) bool) {
			b.Run(size.String()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if !verify(i % count) {
						b.Fatal("a valid signature is refused")
					}
				}
			})
		}
		bench("dsafast", func(i int) bool { return p.fast.Verify(digests[i], rBytes[i], sBytes[i]) })
		bench("crypto_dsa", func(i int) bool { return dsa.Verify(p.pub, digests[i], rs[i], ss[i]) })
	}
}

func BenchmarkNew(b *testing.B) {
	for _, size := range sizes {
		pub := &testkeys.DSA(b, size.l, size.n).PublicKey
		b.Run(size.String(), func(b *testing.B) {
			var k *dsafast.Key
			for b.Loop() {
				k = dsafast.New(pub)
			}
			b.ReportMetric(float64(k.TableBytes()), "table-bytes")
		})
	}
}
