package conformance

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

// requireSeeds fails if the committed seeds of f are gone, since a target
// without seeds finds nothing in a few seconds and looks green.
func requireSeeds(f *testing.F) {
	f.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	require.NoError(f, err)
	require.NotEmpty(f, files)
}

// genuine returns one vector that verifies for each way of signing and
// writing, always the same ones in the same order.
func genuine(f *testing.F) []testdata.Case {
	f.Helper()
	cases, err := testdata.Cases()
	require.NoError(f, err)
	var picked []testdata.Case
	seen := make(map[string]bool)
	for _, c := range cases {
		id := c.Kind + c.Encoding + c.Format + c.Prefix
		if c.Want == "ok" && c.Body == "ascii.txt" && !seen[id] {
			seen[id] = true
			picked = append(picked, c)
		}
	}
	require.GreaterOrEqual(f, len(picked), 10)
	return picked
}

// FuzzHeader looks for a header value that is accepted and is not the one
// that the sender made, up to the case of hex digits.
func FuzzHeader(f *testing.F) {
	requireSeeds(f)
	cases := genuine(f)
	verifiers := make([]verifier, len(cases))
	bodies := make([][]byte, len(cases))
	for i, c := range cases {
		verifiers[i] = newVectorVerifier(f, c)
		body, err := c.BodyBytes()
		require.NoError(f, err)
		bodies[i] = body
		f.Add(uint8(i), c.Value, "")
	}
	f.Fuzz(func(t *testing.T, which uint8, value, second string) {
		i := int(which) % len(cases)
		c, header := cases[i], http.Header{vectorHeader: {value}}
		if second != "" {
			header.Add(vectorHeader, second)
		}
		err := verifiers[i].Verify(bodies[i], header)
		same := value == c.Value || c.Encoding == "hex" &&
			strings.HasPrefix(value, c.Prefix) && strings.EqualFold(value, c.Value)
		switch {
		case second == "" && same:
			require.NoError(t, err)
		case second != "":
			require.ErrorIs(t, err, hmac.ErrMalformed)
		default:
			require.Error(t, err)
			require.True(t, errors.Is(err, hmac.ErrMalformed) != errors.Is(err, hmac.ErrMismatch), "%v", err)
			require.NotErrorIs(t, err, hmac.ErrMissing)
		}
		require.Error(t, verifiers[i].Verify(append(bodies[i][:len(bodies[i]):len(bodies[i])], 0), header))
	})
}

// FuzzPublicKey looks for a key text that panics, takes long, or is taken for
// a key that no other text of that key gives.
func FuzzPublicKey(f *testing.F) {
	requireSeeds(f)
	for _, name := range []string{"rsa2048-java-a", "rsa1024-java-a", "dsa1024-160-java-a", "dsa2048-256-java-a"} {
		text, err := testdata.PublicKey(name)
		require.NoError(f, err)
		f.Add(text)
		f.Add([]byte(strings.ReplaceAll(string(text), "\n", `\n`)))
		f.Add([]byte(base64.StdEncoding.EncodeToString(text)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		start := time.Now()
		rsaKey, rsaErr := rsasig.ParsePublicKey(text)
		dsaKey, dsaErr := dsasig.ParsePublicKey(text)
		// A guard against minutes, not a measurement.
		require.Less(t, time.Since(start), 10*time.Second)
		require.Equal(t, rsaErr == nil, rsaKey != nil)
		require.Equal(t, dsaErr == nil, dsaKey != nil)
		require.False(t, rsaErr == nil && dsaErr == nil, "one text is a key of both algorithms")
		if rsaErr == nil && rsaKey.N.BitLen() >= 512 {
			again, err := rsasig.ParsePublicKey(pkixOf(t, rsaKey))
			require.NoError(t, err)
			require.True(t, rsaKey.Equal(again))
		}
		if rsaErr == nil {
			_, _ = rsasig.New(rsasig.SalesIQ(), rsaKey)
		}
		if dsaErr == nil {
			_, _ = dsasig.New(dsasig.ConvoKraft(), dsaKey)
		}
	})
}

// FuzzDER compares what dsasig reads as a signature with encoding/asn1, which
// is strict if what it has read is written again and compared.
func FuzzDER(f *testing.F) {
	requireSeeds(f)
	text, err := testdata.PublicKey("dsa2048-256-java-a")
	require.NoError(f, err)
	key, err := dsasig.ParsePublicKey(text)
	require.NoError(f, err)
	v, err := dsasig.New(dsasig.ConvoKraft(), key)
	require.NoError(f, err)
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, der []byte) {
		var rs struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(der, &rs)
		readable := err == nil && len(rest) == 0 && len(der) <= 72
		if readable {
			again, err := asn1.Marshal(rs)
			readable = err == nil && string(again) == string(der)
		}
		want := dsasig.ErrMalformed
		if readable {
			want = dsasig.ErrMismatch
		}
		header := http.Header{"X-Convokraft-Signature": {base64.StdEncoding.EncodeToString(der)}}
		require.ErrorIs(t, v.Verify([]byte("a body that nobody has signed"), header), want)
	})
}
