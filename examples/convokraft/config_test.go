package main

import (
	"crypto"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	key, other := asPEM(publicKey(t, current)), asBase64(publicKey(t, previous))
	rsaKey, err := testdata.PublicKey("rsa2048-java-a")
	require.NoError(t, err)
	tests := []struct {
		name string
		env  map[string]string
		want []int    // the pairs whose deliveries are accepted
		says []string // by the error; empty: there is none
	}{
		{"one", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key}, []int{current}, nil},
		{"two", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_PUBLIC_KEY_PREVIOUS": other}, []int{current, previous}, nil},
		{"second one empty", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_PUBLIC_KEY_PREVIOUS": " "}, []int{current}, nil},
		{"from files", map[string]string{"CONVOKRAFT_PUBLIC_KEY_FILE": file(other), "CONVOKRAFT_PUBLIC_KEY_PREVIOUS_FILE": file(key)}, []int{current, previous}, nil},
		{"line breaks lost", map[string]string{"CONVOKRAFT_PUBLIC_KEY": strings.ReplaceAll(key, "\n", `\n`)}, []int{current}, nil},
		{"Base64 of a PEM", map[string]string{"CONVOKRAFT_PUBLIC_KEY": base64.StdEncoding.EncodeToString([]byte(key))}, []int{current}, nil},

		{"none", nil, nil, []string{"set CONVOKRAFT_PUBLIC_KEY", "CONVOKRAFT_PUBLIC_KEY_FILE"}},
		{"previous only", map[string]string{"CONVOKRAFT_PUBLIC_KEY_PREVIOUS": key}, nil, []string{"set CONVOKRAFT_PUBLIC_KEY "}},
		{"RSA", map[string]string{"CONVOKRAFT_PUBLIC_KEY": string(rsaKey)}, nil, []string{"CONVOKRAFT_PUBLIC_KEY:", "RSA"}},
		{"half", map[string]string{"CONVOKRAFT_PUBLIC_KEY": other[:len(other)/2]}, nil, []string{"CONVOKRAFT_PUBLIC_KEY:"}},
		{"half of the previous", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_PUBLIC_KEY_PREVIOUS": other[:200]}, nil, []string{"CONVOKRAFT_PUBLIC_KEY_PREVIOUS:"}},
		{"variable and its file", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_PUBLIC_KEY_FILE": file(key)}, nil, []string{"both", "CONVOKRAFT_PUBLIC_KEY_FILE"}},
		{"key in place of a file's name", map[string]string{"CONVOKRAFT_PUBLIC_KEY_FILE": other}, nil, []string{"CONVOKRAFT_PUBLIC_KEY_FILE", "cannot be read"}},
		{"empty file", map[string]string{"CONVOKRAFT_PUBLIC_KEY_FILE": file("")}, nil, []string{"CONVOKRAFT_PUBLIC_KEY_FILE", "empty"}},
		{"hash is a key", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_HASH": other}, nil, []string{"CONVOKRAFT_HASH is none of sha1, sha224, sha256, sha384, sha512"}},
		{"all choices wrong", map[string]string{"CONVOKRAFT_PUBLIC_KEY": key, "CONVOKRAFT_HASH": "md5", "CONVOKRAFT_FORMAT": "pem", "CONVOKRAFT_ENCODING": "utf8"}, nil,
			[]string{"CONVOKRAFT_HASH is", "CONVOKRAFT_FORMAT is none of der, p1363", "CONVOKRAFT_ENCODING is none of base64, hex"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := newVerifier(getenv(tt.env))
			if tt.says != nil {
				require.Error(t, err)
				assert.Nil(t, v)
				for _, words := range tt.says {
					assert.Contains(t, err.Error(), words)
				}
				for _, text := range tt.env {
					if len(text) > 100 {
						assert.NotContains(t, err.Error(), text[50:70], "a part of the key")
					}
				}
				return
			}
			require.NoError(t, err)
			var accepted []int
			for pair := range keyPairs() {
				if verifies(t, v, signAs(dsasig.ConvoKraft(), pair)) {
					accepted = append(accepted, pair)
				}
			}
			assert.ElementsMatch(t, tt.want, accepted)
		})
	}
}

func verifies(t *testing.T, v *dsasig.Verifier, sign func([]byte) (string, error)) bool {
	t.Helper()
	value, err := sign([]byte(execute))
	require.NoError(t, err)
	header := make(http.Header)
	header.Set(dsasig.ConvoKraft().Header, value)
	return v.Verify([]byte(execute), header) == nil
}

// TestAssumptions shows that what ConvoKraft does not document can be set, and
// that one setting is accepted at a time.
func TestAssumptions(t *testing.T) {
	t.Parallel()
	type choice struct{ hash, format, encoding string }
	tests := map[choice]dsasig.Scheme{
		{}:                          {},
		{"sha256", "der", "base64"}: {Hash: crypto.SHA256, Format: dsasig.DER, Encoding: dsasig.Base64},
		{"SHA1", "", ""}:            {Hash: crypto.SHA1, Format: dsasig.DER, Encoding: dsasig.Base64},
		{" sha224 ", "", "hex"}:     {Hash: crypto.SHA224, Format: dsasig.DER, Encoding: dsasig.Hex},
		{"sha384", "p1363", ""}:     {Hash: crypto.SHA384, Format: dsasig.P1363, Encoding: dsasig.Base64},
		{"sha512", "P1363", "HEX"}:  {Hash: crypto.SHA512, Format: dsasig.P1363, Encoding: dsasig.Hex},
	}
	for c, want := range tests {
		v, err := newVerifier(getenv(map[string]string{
			"CONVOKRAFT_PUBLIC_KEY": asPEM(publicKey(t, current)),
			"CONVOKRAFT_HASH":       c.hash, "CONVOKRAFT_FORMAT": c.format, "CONVOKRAFT_ENCODING": c.encoding,
		}))
		require.NoError(t, err)
		if want.Hash == 0 {
			want = dsasig.ConvoKraft()
		}
		want.Header = dsasig.ConvoKraft().Header
		assert.True(t, verifies(t, v, signAs(want, current)), c)
		other := want
		other.Hash = crypto.SHA256
		if want.Hash == crypto.SHA256 {
			other.Hash = crypto.SHA1
		}
		assert.False(t, verifies(t, v, signAs(other, current)), c)
	}
}
