package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/testdata"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	key, other := asInConsole(publicKey(t, current)), asPEM(publicKey(t, previous))
	short, err := testdata.PublicKey("rsa1024-java-a")
	require.NoError(t, err)
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keyPairs()[stranger])}))
	tests := []struct {
		name string
		env  map[string]string
		want []int    // the pairs whose deliveries are accepted
		says []string // by the error; empty: there is none
	}{
		{"one", map[string]string{"SALESIQ_PUBLIC_KEY": key}, []int{current}, nil},
		{"two", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_PUBLIC_KEY_PREVIOUS": other}, []int{current, previous}, nil},
		{"second one empty", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_PUBLIC_KEY_PREVIOUS": " \n"}, []int{current}, nil},
		{"from files", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": file(other), "SALESIQ_PUBLIC_KEY_PREVIOUS_FILE": file(key)}, []int{current, previous}, nil},
		{"variable and file", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_PUBLIC_KEY_PREVIOUS_FILE": file(other)}, []int{current, previous}, nil},
		{"line breaks lost", map[string]string{"SALESIQ_PUBLIC_KEY": strings.ReplaceAll(other, "\n", `\n`)}, []int{previous}, nil},
		{"longer required, and long enough", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_MIN_BITS": "2048"}, []int{current}, nil},
		{"short, allowed", map[string]string{"SALESIQ_PUBLIC_KEY": string(short), "SALESIQ_MIN_BITS": "1024"}, []int{}, nil},

		{"none", nil, nil, []string{"set SALESIQ_PUBLIC_KEY", "SALESIQ_PUBLIC_KEY_FILE"}},
		{"previous only", map[string]string{"SALESIQ_PUBLIC_KEY_PREVIOUS": key}, nil, []string{"set SALESIQ_PUBLIC_KEY "}},
		{"short", map[string]string{"SALESIQ_PUBLIC_KEY": string(short)}, nil, []string{"SALESIQ_PUBLIC_KEY:", "1024 bits", "SALESIQ_MIN_BITS"}},
		{"previous one short", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_PUBLIC_KEY_PREVIOUS": string(short)}, nil, []string{"SALESIQ_PUBLIC_KEY_PREVIOUS:", "1024 bits"}},
		{"too short for what is required", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_MIN_BITS": "4096"}, nil, []string{"4096", "SALESIQ_MIN_BITS"}},
		{"private", map[string]string{"SALESIQ_PUBLIC_KEY": private}, nil, []string{"SALESIQ_PUBLIC_KEY:", "private key"}},
		{"half", map[string]string{"SALESIQ_PUBLIC_KEY": key[:len(key)/2]}, nil, []string{"SALESIQ_PUBLIC_KEY:"}},
		{"variable and its file", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_PUBLIC_KEY_FILE": file(key)}, nil, []string{"both", "SALESIQ_PUBLIC_KEY_FILE"}},
		{"no such file", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": filepath.Join(t.TempDir(), "none")}, nil, []string{"SALESIQ_PUBLIC_KEY_FILE", "cannot be read"}},
		{"key in place of a file's name", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": key}, nil, []string{"SALESIQ_PUBLIC_KEY_FILE", "cannot be read"}},
		{"folder", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": t.TempDir()}, nil, []string{"SALESIQ_PUBLIC_KEY_FILE", "cannot be read"}},
		{"empty file", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": file("\n")}, nil, []string{"SALESIQ_PUBLIC_KEY_FILE", "empty"}},
		{"file with half a key", map[string]string{"SALESIQ_PUBLIC_KEY_FILE": file(key[:100])}, nil, []string{"SALESIQ_PUBLIC_KEY_FILE:"}},
		{"size is a key", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_MIN_BITS": key}, nil, []string{"SALESIQ_MIN_BITS"}},
		{"size too small", map[string]string{"SALESIQ_PUBLIC_KEY": key, "SALESIQ_MIN_BITS": "512"}, nil, []string{"SALESIQ_MIN_BITS"}},
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
				value, err := sign(pair)([]byte(question))
				require.NoError(t, err)
				if v.Verify([]byte(question), http.Header{"X-Siqsignature": {value}}) == nil {
					accepted = append(accepted, pair)
				}
			}
			assert.ElementsMatch(t, tt.want, accepted)
		})
	}
}
