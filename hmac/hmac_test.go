package hmac_test

import (
	"bytes"
	"crypto"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
)

var secret = []byte("a secret for tests")

func TestNewRefuses(t *testing.T) {
	with := func(change func(*hmac.Scheme)) hmac.Scheme {
		s := hmac.Haptik()
		change(&s)
		return s
	}
	tests := []struct {
		name    string
		scheme  hmac.Scheme
		secrets [][]byte
	}{
		{"no secret", hmac.Haptik(), nil},
		{"nil secret", hmac.Haptik(), [][]byte{nil}},
		{"empty secret", hmac.Haptik(), [][]byte{{}}},
		{"empty second secret", hmac.Haptik(), [][]byte{secret, {}}},
		{"blank secret", hmac.Haptik(), [][]byte{[]byte(" \r\n")}},
		{"zero scheme", hmac.Scheme{}, [][]byte{secret}},
		{"no header", with(func(s *hmac.Scheme) { s.Header = "" }), [][]byte{secret}},
		{"header with a blank", with(func(s *hmac.Scheme) { s.Header = "X Sig" }), [][]byte{secret}},
		{"header with a colon", with(func(s *hmac.Scheme) { s.Header = "X-Sig:" }), [][]byte{secret}},
		{"prefix with a comma", with(func(s *hmac.Scheme) { s.Prefix = "a,b=" }), [][]byte{secret}},
		{"prefix with a blank", with(func(s *hmac.Scheme) { s.Prefix = "sha1= " }), [][]byte{secret}},
		{"no hash", with(func(s *hmac.Scheme) { s.Hash = 0 }), [][]byte{secret}},
		{"MD5", with(func(s *hmac.Scheme) { s.Hash = crypto.MD5 }), [][]byte{secret}},
		{"unknown hash", with(func(s *hmac.Scheme) { s.Hash = 1000 }), [][]byte{secret}},
		{"unknown encoding", with(func(s *hmac.Scheme) { s.Encoding = 2 }), [][]byte{secret}},
		{"negative encoding", with(func(s *hmac.Scheme) { s.Encoding = -1 }), [][]byte{secret}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := hmac.New(tt.scheme, tt.secrets...)
			require.Error(t, err)
			assert.Nil(t, v)
			if len(tt.secrets) > 0 {
				_, err = hmac.Sign(tt.scheme, tt.secrets[len(tt.secrets)-1], nil)
				assert.Error(t, err)
			}
		})
	}
}

func TestNewCopiesSecrets(t *testing.T) {
	mine := bytes.Clone(secret)
	v, err := hmac.New(hmac.Compliancely(), mine)
	require.NoError(t, err)
	clear(mine)
	value, err := hmac.Sign(hmac.Compliancely(), secret, nil)
	require.NoError(t, err)
	assert.NoError(t, v.Verify(nil, http.Header{"Compliancely-Signature": {value}}))
}

// TestCompliancelyForms: that sender's page does not say how the digest is
// written, so the preset takes two forms, and a third is one option away.
func TestCompliancelyForms(t *testing.T) {
	base64 := hmac.Compliancely()
	base64.Encoding = hmac.Base64
	const body = "{}"
	value, err := hmac.Sign(hmac.Compliancely(), secret, []byte(body))
	require.NoError(t, err)
	hexDigits := value[len("sha256="):]
	require.Len(t, hexDigits, 64)
	in64, err := hmac.Sign(base64, secret, []byte(body))
	require.NoError(t, err)
	in64 = in64[len("sha256="):]
	require.Len(t, in64, 44)

	tests := []struct {
		name   string
		scheme hmac.Scheme
		value  string
		want   error
		hint   string
	}{
		{"hex", hmac.Compliancely(), hexDigits, nil, ""},
		{"hex after sha256=", hmac.Compliancely(), "sha256=" + hexDigits, nil, ""},
		{"Base64 where hex is configured", hmac.Compliancely(), in64, hmac.ErrMalformed, "looks like Base64"},
		{"Base64", base64, in64, nil, ""},
		{"Base64 after sha256=", base64, "sha256=" + in64, nil, ""},
		{"hex where Base64 is configured", base64, hexDigits, hmac.ErrMalformed, "looks like hex"},
		{"after sha1=", hmac.Compliancely(), "sha1=" + hexDigits, hmac.ErrMalformed, "it is not hex"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := hmac.New(tt.scheme, secret)
			require.NoError(t, err)
			err = v.Verify([]byte(body), http.Header{"Compliancely-Signature": {tt.value}})
			if tt.want == nil {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, tt.want)
				assert.ErrorContains(t, err, tt.hint)
			}
		})
	}
}
