package conformance

import (
	"crypto"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

const vectorHeader = "X-Vector"

var hashes = map[string]crypto.Hash{
	"SHA1": crypto.SHA1, "SHA224": crypto.SHA224, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
}

var verdicts = map[string]error{
	"ok": nil, "malformed": hmac.ErrMalformed, "mismatch": hmac.ErrMismatch,
}

// TestVectors runs every delivery of testdata, made by Java, OpenSSL and
// Python and published by others, through the package that it is for.
func TestVectors(t *testing.T) {
	cases, err := testdata.Cases()
	require.NoError(t, err)
	counts := make(map[string]int)
	for _, c := range cases {
		want, known := verdicts[c.Want]
		require.True(t, known, "%s wants %q", c.Name, c.Want)
		body, err := c.BodyBytes()
		require.NoError(t, err, c.Name)
		err = vectorVerifier(t, c).Verify(body, http.Header{vectorHeader: {c.Value}})
		counts[c.Kind+" "+c.Want]++
		if want == nil {
			assert.NoError(t, err, c.Name)
		} else {
			assert.ErrorIs(t, err, want, "%s (%s)", c.Name, c.Why)
		}
	}
	t.Logf("%d cases: %v", len(cases), counts)
	require.GreaterOrEqual(t, len(cases), 1000)
	for _, kind := range []string{"hmac", "rsa", "dsa"} {
		for want := range verdicts {
			require.NotZero(t, counts[kind+" "+want], "no %s case wants %s", kind, want)
		}
	}
}

// vectorVerifiers keeps Verifiers, since checking a DSA key takes a while.
var vectorVerifiers = make(map[string]verifier)

func vectorVerifier(t testing.TB, c testdata.Case) verifier {
	t.Helper()
	id := fmt.Sprint(c.Kind, c.Hash, c.Encoding, c.Format, c.Prefix, c.Key, c.Secret)
	v, ok := vectorVerifiers[id]
	if !ok {
		v = newVectorVerifier(t, c)
		vectorVerifiers[id] = v
	}
	return v
}

func newVectorVerifier(t testing.TB, c testdata.Case) verifier {
	t.Helper()
	hash, ok := hashes[c.Hash]
	require.True(t, ok, "%s has hash %q", c.Name, c.Hash)
	encoding, ok := map[string]int{"hex": 0, "base64": 1}[c.Encoding]
	require.True(t, ok, "%s has encoding %q", c.Name, c.Encoding)
	switch c.Kind {
	case "hmac":
		v, err := hmac.New(hmac.Scheme{
			Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: hmac.Encoding(encoding),
		}, c.Secret)
		require.NoError(t, err, c.Name)
		return v
	case "rsa":
		text, err := testdata.PublicKey(c.Key)
		require.NoError(t, err, c.Name)
		key, err := rsasig.ParsePublicKey(text)
		require.NoError(t, err, c.Name)
		v, err := rsasig.New(rsasig.Scheme{
			Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: rsasig.Encoding(encoding), MinBits: 1024,
		}, key)
		require.NoError(t, err, c.Name)
		return v
	case "dsa":
		text, err := testdata.PublicKey(c.Key)
		require.NoError(t, err, c.Name)
		key, err := dsasig.ParsePublicKey(text)
		require.NoError(t, err, c.Name)
		format, ok := map[string]dsasig.Format{"der": dsasig.DER, "p1363": dsasig.P1363}[c.Format]
		require.True(t, ok, "%s has format %q", c.Name, c.Format)
		v, err := dsasig.New(dsasig.Scheme{
			Header: vectorHeader, Prefix: c.Prefix, Hash: hash, Encoding: dsasig.Encoding(encoding), Format: format,
		}, key)
		require.NoError(t, err, c.Name)
		return v
	}
	require.Fail(t, "unknown kind", "%s has kind %q", c.Name, c.Kind)
	return nil
}
