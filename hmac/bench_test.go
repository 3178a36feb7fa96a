package hmac_test

import (
	"crypto"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
)

// BenchmarkVerify stands beside the bare hash of the same body: what HMAC and
// the header cost is the difference.
func BenchmarkVerify(b *testing.B) {
	for _, s := range []hmac.Scheme{hmac.Haptik(), hmac.Compliancely()} {
		for _, size := range []int{1 << 10, 64 << 10} {
			body := make([]byte, size)
			name := fmt.Sprintf("%v/%dKiB", s.Hash, size>>10)
			b.Run(name+"/bare-hash", func(b *testing.B) {
				b.SetBytes(int64(size))
				h := s.Hash.New()
				var sum [64]byte
				for b.Loop() {
					h.Reset()
					h.Write(body)
					h.Sum(sum[:0])
				}
			})
			b.Run(name+"/hooktrust", func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				v, header := genuine(b, s, body, "current")
				for b.Loop() {
					if err := v.Verify(body, header); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// genuine returns a Verifier of the secrets and a header by the last of them.
func genuine(t testing.TB, s hmac.Scheme, body []byte, secrets ...string) (*hmac.Verifier, http.Header) {
	t.Helper()
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		keys[i] = []byte(secret)
	}
	v, err := hmac.New(s, keys...)
	require.NoError(t, err)
	value, err := hmac.Sign(s, keys[len(keys)-1], body)
	require.NoError(t, err)
	header := http.Header{}
	header.Set(s.Header, value)
	return v, header
}

func TestVerifyDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops what it is given")
	}
	in64 := hmac.Compliancely()
	in64.Encoding = hmac.Base64
	sha512 := hmac.Haptik()
	sha512.Hash = crypto.SHA512
	for _, s := range []hmac.Scheme{hmac.Haptik(), hmac.Compliancely(), in64, sha512} {
		for _, secrets := range [][]string{{"one"}, {"one", "two", "three"}} {
			body := make([]byte, 1<<10)
			v, header := genuine(t, s, body, secrets...)
			allocs := testing.AllocsPerRun(1000, func() {
				if v.Verify(body, header) != nil {
					panic("refused")
				}
			})
			require.Zero(t, allocs, "%v, %d secrets", s, len(secrets))
		}
	}
}
