package conformance

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
)

func TestSentinelsAreTheSame(t *testing.T) {
	for _, triple := range [][3]error{
		{hmac.ErrMissing, rsasig.ErrMissing, dsasig.ErrMissing},
		{hmac.ErrMalformed, rsasig.ErrMalformed, dsasig.ErrMalformed},
		{hmac.ErrMismatch, rsasig.ErrMismatch, dsasig.ErrMismatch},
	} {
		assert.NotNil(t, triple[0])
		assert.True(t, triple[0] == triple[1] && triple[1] == triple[2])
	}
	assert.NotErrorIs(t, hmac.ErrMissing, hmac.ErrMalformed)
	assert.NotErrorIs(t, hmac.ErrMalformed, hmac.ErrMismatch)
	assert.NotErrorIs(t, hmac.ErrMismatch, hmac.ErrMissing)
}

// TestHeader is the table of what a header can hold. Key 0 is the verifier's,
// key 2 nobody's.
func TestHeader(t *testing.T) {
	// one makes a header of one value out of a genuine sample.
	one := func(value func(k sample) string) func(k sample) http.Header {
		return func(k sample) http.Header { return k.carry(value(k)) }
	}
	fixed := func(value string) func(k sample) http.Header {
		return func(k sample) http.Header { return k.carry(value) }
	}
	tests := []struct {
		name    string
		header  func(k sample) http.Header
		skip    func(k kit) bool // where the case does not exist
		wantErr error
	}{
		{"genuine", one(func(k sample) string { return k.value }), nil, nil},
		{"header name in lower case", func(k sample) http.Header {
			h := http.Header{}
			h.Set(strings.ToLower(k.header), k.value)
			return h
		}, nil, nil},
		{"hex in upper case", one(func(k sample) string {
			return k.prefix + strings.ToUpper(k.value[len(k.prefix):])
		}), func(k kit) bool { return k.base64 }, nil},
		{"prefix left out where optional", one(func(k sample) string { return k.value[len(k.prefix):] }),
			func(k kit) bool { return !k.bare }, nil},

		{"nil header", func(k sample) http.Header { return nil }, nil, hmac.ErrMissing},
		{"no header", func(k sample) http.Header { return k.carry() }, nil, hmac.ErrMissing},
		{"header without a value", func(k sample) http.Header {
			return http.Header{http.CanonicalHeaderKey(k.header): nil}
		}, nil, hmac.ErrMissing},

		{"empty", fixed(""), nil, hmac.ErrMalformed},
		{"blank", fixed(" "), nil, hmac.ErrMalformed},
		{"prefix alone", one(func(k sample) string { return k.prefix }), nil, hmac.ErrMalformed},
		{"not text", fixed("\x00\xff\xfe"), nil, hmac.ErrMalformed},
		{"two values, both genuine", func(k sample) http.Header { return k.carry(k.value, k.value) }, nil, hmac.ErrMalformed},
		{"two values, genuine first", func(k sample) http.Header { return k.carry(k.value, "x") }, nil, hmac.ErrMalformed},
		{"two values, genuine last", func(k sample) http.Header { return k.carry("x", k.value) }, nil, hmac.ErrMalformed},
		{"joined by a comma", one(func(k sample) string { return k.value + "," + k.value }), nil, hmac.ErrMalformed},
		{"joined by comma and blank", one(func(k sample) string { return k.value + ", " + k.value }), nil, hmac.ErrMalformed},
		{"comma at the end", one(func(k sample) string { return k.value + "," }), nil, hmac.ErrMalformed},
		{"blank before", one(func(k sample) string { return " " + k.value }), nil, hmac.ErrMalformed},
		{"blank after", one(func(k sample) string { return k.value + " " }), nil, hmac.ErrMalformed},
		{"line feed after", one(func(k sample) string { return k.value + "\n" }), nil, hmac.ErrMalformed},
		{"line break inside", one(func(k sample) string {
			i := len(k.prefix) + 8
			return k.value[:i] + "\r\n" + k.value[i:]
		}), nil, hmac.ErrMalformed},
		{"in quotes", one(func(k sample) string { return `"` + k.value + `"` }), nil, hmac.ErrMalformed},
		{"one character short", one(func(k sample) string { return k.value[:len(k.value)-1] }), nil, hmac.ErrMalformed},
		{"one byte short", one(func(k sample) string {
			sig := k.decode(t, k.value)
			return k.encode(sig[:len(sig)-1])
		}), nil, hmac.ErrMalformed},
		{"one byte long", one(func(k sample) string { return k.encode(append(k.decode(t, k.value), 0)) }), nil, hmac.ErrMalformed},
		{"half", one(func(k sample) string {
			sig := k.decode(t, k.value)
			return k.encode(sig[:len(sig)/2])
		}), nil, hmac.ErrMalformed},
		{"twice", one(func(k sample) string {
			sig := k.decode(t, k.value)
			return k.encode(append(sig, sig...))
		}), nil, hmac.ErrMalformed},
		{"16 KiB long", one(func(k sample) string { return k.value + strings.Repeat("A", 16<<10) }), nil, hmac.ErrMalformed},
		{"wrong digit", one(func(k sample) string { return k.value[:len(k.prefix)] + "!" + k.value[len(k.prefix)+1:] }), nil, hmac.ErrMalformed},
		{"prefix missing", one(func(k sample) string { return k.value[len(k.prefix):] }),
			func(k kit) bool { return k.bare }, hmac.ErrMalformed},
		{"prefix twice", one(func(k sample) string { return k.prefix + k.value }),
			func(k kit) bool { return k.prefix == "" }, hmac.ErrMalformed},
		{"prefix of another algorithm", one(func(k sample) string { return "md5=" + k.value[len(k.prefix):] }), nil, hmac.ErrMalformed},
		{"prefix in other case", one(func(k sample) string {
			return strings.ToUpper(k.prefix) + k.value[len(k.prefix):]
		}), func(k kit) bool { return k.prefix == "" }, hmac.ErrMalformed},
		{"the other encoding", one(func(k sample) string {
			sig := k.decode(t, k.value)
			if k.base64 {
				return k.prefix + hex.EncodeToString(sig)
			}
			return k.prefix + base64.StdEncoding.EncodeToString(sig)
		}), nil, hmac.ErrMalformed},
		{"URL alphabet", one(func(k sample) string {
			return k.prefix + strings.NewReplacer("+", "-", "/", "_").Replace(k.value[len(k.prefix):])
		}), func(k kit) bool { return !k.base64 }, hmac.ErrMalformed},
		{"padding left out", one(func(k sample) string { return strings.TrimRight(k.value, "=") }),
			func(k kit) bool { return !k.base64 }, hmac.ErrMalformed},
		{"padding too long", one(func(k sample) string { return k.value + "=" }),
			func(k kit) bool { return !k.base64 }, hmac.ErrMalformed},
		{"bits set under the padding", one(func(k sample) string {
			trimmed := strings.TrimRight(k.value, "=")
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			last := strings.IndexByte(alphabet, trimmed[len(trimmed)-1])
			return trimmed[:len(trimmed)-1] + string(alphabet[last^1]) + k.value[len(trimmed):]
		}), func(k kit) bool { return !k.base64 }, hmac.ErrMalformed},

		{"signed with another key", one(func(k sample) string { return k.sign(t, 2, k.body) }), nil, hmac.ErrMismatch},
		{"of another body", one(func(k sample) string { return k.sign(t, 0, []byte("{}")) }), nil, hmac.ErrMismatch},
		{"zeros", one(func(k sample) string { return k.encode(make([]byte, len(k.decode(t, k.value)))) }),
			func(k kit) bool { return !k.exact }, hmac.ErrMismatch},
	}
	for _, k := range kits(t) {
		t.Run(k.name, func(t *testing.T) {
			body, genuine := signed(t, k)
			v := k.verify(t, 0)
			ran := 0
			for _, tt := range tests {
				if tt.skip != nil && tt.skip(k) {
					continue
				}
				ran++
				key, err := v.VerifyKey(body, tt.header(sample{k, body, genuine}))
				if tt.wantErr == nil {
					assert.NoError(t, err, tt.name)
					assert.Equal(t, 0, key, tt.name)
					continue
				}
				assert.ErrorIs(t, err, tt.wantErr, tt.name)
				assert.Equal(t, -1, key, tt.name)
			}
			require.Greater(t, ran, 30)
		})
	}
}

// sample is a body and its genuine header value by key 0.
type sample struct {
	kit
	body  []byte
	value string
}

// signed returns a body and its genuine header value by key 0. In Base64 the
// value has padding and a character that the URL alphabet has not.
func signed(t testing.TB, k kit) (body []byte, value string) {
	for i := range 1000 {
		body = fmt.Appendf(nil, `{"event_name":"webhook_agent_chat_complete","data":{"conversation_no":%d}}`, i)
		value = k.sign(t, 0, body)
		if !k.base64 || strings.ContainsAny(value, "+/") && strings.HasSuffix(value, "=") {
			return body, value
		}
	}
	require.Fail(t, "no signature with padding and + or /")
	return nil, ""
}

func TestEveryBit(t *testing.T) {
	for _, k := range kits(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			body, genuine := signed(t, k)
			v := k.verify(t, 0, 1)
			for i := range 8 * len(body) {
				tampered := append([]byte(nil), body...)
				tampered[i/8] ^= 1 << (i % 8)
				require.ErrorIs(t, v.Verify(tampered, k.carry(genuine)), hmac.ErrMismatch, "bit %d of the body", i)
			}
			sig := k.decode(t, genuine)
			for i := range 8 * len(sig) {
				sig[i/8] ^= 1 << (i % 8)
				err := v.Verify(body, k.carry(k.encode(sig)))
				sig[i/8] ^= 1 << (i % 8)
				if k.exact {
					require.ErrorIs(t, err, hmac.ErrMismatch, "bit %d of the signature", i)
				} else if err == nil || hmac.ErrMissing == err {
					require.Fail(t, "accepted or missing", "bit %d of the signature", i)
				}
			}
			require.NoError(t, v.Verify(body, k.carry(genuine)))
			for i := range 8 * len(genuine) {
				value := []byte(genuine)
				value[i/8] ^= 1 << (i % 8)
				err := v.Verify(body, k.carry(string(value)))
				digits := len(k.prefix)
				if !k.base64 && i/8 >= digits && strings.EqualFold(string(value), genuine) {
					require.NoError(t, err, "bit %d of the header only changes the case of a hex digit", i)
				} else {
					require.Error(t, err, "bit %d of the header", i)
				}
			}
			for n := range len(body) {
				require.ErrorIs(t, v.Verify(body[:n], k.carry(genuine)), hmac.ErrMismatch, "body cut to %d bytes", n)
			}
			require.ErrorIs(t, v.Verify(append(body, '\n'), k.carry(genuine)), hmac.ErrMismatch)
		})
	}
}

func TestBodies(t *testing.T) {
	bodies := map[string][]byte{
		"nil": nil, "empty": {}, "one NUL": {0}, "CR LF": []byte("{\r\n}\r\n"),
		"not UTF-8": {0xff, 0xfe, 0x00}, "1 MiB": make([]byte, 1<<20),
	}
	for _, k := range kits(t) {
		v := k.verify(t, 0)
		for name, body := range bodies {
			assert.NoError(t, v.Verify(body, k.carry(k.sign(t, 0, body))), "%s: %s", k.name, name)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, k := range kits(t) {
		t.Run(k.name, func(t *testing.T) {
			body, _ := signed(t, k)
			verifies := func(v verifier, by int) int {
				t.Helper()
				header := k.carry(k.sign(t, by, body))
				key, err := v.VerifyKey(body, header)
				if err != nil {
					require.ErrorIs(t, err, hmac.ErrMismatch)
				}
				require.Equal(t, err == nil, v.Verify(body, header) == nil)
				return key
			}

			v := k.verify(t, 0, 1)
			assert.Equal(t, 0, verifies(v, 0))
			assert.Equal(t, 1, verifies(v, 1))
			assert.Equal(t, -1, verifies(v, 2))
			assert.Equal(t, 0, verifies(k.verify(t, 1, 1), 1), "of equal keys the first is told")

			require.NoError(t, k.set(v, 2, 0))
			assert.Equal(t, 1, verifies(v, 0))
			assert.Equal(t, -1, verifies(v, 1))
			assert.Equal(t, 0, verifies(v, 2))

			assert.Error(t, k.set(v), "no key")
			assert.Error(t, k.set(v, -1), "a bad key")
			assert.Error(t, k.set(v, 1, -1), "a good and a bad key")
			assert.Equal(t, 1, verifies(v, 0), "the old keys stay")
			assert.Equal(t, -1, verifies(v, 1))
			assert.Equal(t, 0, verifies(v, 2))
		})
	}
}

func TestZeroVerifierRefuses(t *testing.T) {
	for _, k := range kits(t) {
		body, genuine := signed(t, k)
		for _, v := range k.zero {
			key, err := v.VerifyKey(body, k.carry(genuine))
			assert.ErrorIs(t, err, hmac.ErrMismatch, k.name)
			assert.Equal(t, -1, key, k.name)
			assert.Error(t, v.Verify(body, k.carry(genuine)), k.name)
			assert.Error(t, v.Verify(nil, nil), k.name)
			assert.Error(t, k.set(v, 0), k.name)
			assert.Contains(t, v.String(), "no keys", k.name)
		}
	}
}

// TestSetKeysWhileVerifying is for the race detector, and shows that a Verify
// sees either all old or all new keys: one of the two is key 0 in both sets.
func TestSetKeysWhileVerifying(t *testing.T) {
	for _, k := range kits(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			body, genuine := signed(t, k)
			header := k.carry(genuine)
			v := k.verify(t, 0, 1)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if key, err := v.VerifyKey(body, header); !assert.NoError(t, err) || !assert.Contains(t, []int{0, 1}, key) {
							return
						}
					}
				})
			}
			for i := range 20 {
				if i%2 == 0 {
					assert.NoError(t, k.set(v, 1, 0))
				} else {
					assert.NoError(t, k.set(v, 0, 1))
				}
				assert.Error(t, k.set(v, 1, -1))
			}
			close(stop)
			wg.Wait()
		})
	}
}

// TestNothingLeaks formats verifiers and errors in every way and looks for
// pieces of what they must not show.
func TestNothingLeaks(t *testing.T) {
	secret, mac, content := "leak-me-secret-", "", "leak-me-body"
	v, err := hmac.New(hmac.Haptik(), []byte(secret))
	require.NoError(t, err)
	mac, err = hmac.Sign(hmac.Haptik(), []byte(secret), []byte(content))
	require.NoError(t, err)
	wrong, err := hmac.Sign(hmac.Haptik(), []byte("another"), []byte(content))
	require.NoError(t, err)

	var shown []any
	shown = append(shown, v)
	for _, k := range kits(t) {
		shown = append(shown, k.verify(t, 0, 1))
	}
	for _, value := range []string{wrong, mac + mac, mac[:10], mac + "," + mac, "\x00" + mac} {
		header := http.Header{"X-Hub-Signature": {value}}
		err := v.Verify([]byte(content), header)
		require.Error(t, err)
		shown = append(shown, err)
	}
	_, err = hmac.New(hmac.Haptik(), []byte(secret), nil)
	shown = append(shown, err)

	forbidden := []string{secret, fmt.Sprintf("%x", secret), mac[5:], wrong[5:], content, "[108 101 97 107"}
	for _, s := range shown {
		var out strings.Builder
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			fmt.Fprintf(&out, format+"\n", s)
			fmt.Fprintf(&out, format+"\n", struct{ V any }{s})
			fmt.Fprintf(&out, format+"\n", []any{s})
		}
		text, err := json.Marshal(s)
		require.NoError(t, err)
		out.Write(text)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", s)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", s)
		for _, piece := range forbidden {
			require.NotContains(t, out.String(), piece)
		}
	}
	assert.Equal(t, "hmac.Verifier(X-Hub-Signature, HMAC-SHA-1, 1 key)", v.String())
	assert.Equal(t, v.String(), fmt.Sprintf("%#v", v))
}
