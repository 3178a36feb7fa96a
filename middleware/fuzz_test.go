package middleware_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// FuzzGuard looks for the bytes of a request that reach the handler and are
// not a POST of a body under its own signature.
func FuzzGuard(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzGuard")
	require.NoError(f, err)
	require.NotEmpty(f, seeds)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: " + sign(f, "{}") + "\r\nContent-Length: 2\r\n\r\n{}"))
	var ran bool
	var body []byte
	v := verifier(f)
	guard := &middleware.Guard{Verifier: v, Contract: middleware.SalesIQ(), MaxBody: 1000, Observe: new(results).observe}
	handler := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ran = true
		body, _ = io.ReadAll(r.Body)
	}))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		ran, body = false, nil
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Contains(t, []int{200, 400, 401, 405, 413}, w.Code)
		if !ran {
			require.True(t, w.Code != 200 || r.Method == http.MethodHead)
			return
		}
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, []string{sign(t, string(body))}, lower(r.Header.Values(sigHeader)))
		require.LessOrEqual(t, len(body), 1000)
	})
}

// lower writes hex digits in lower case, as Sign does.
func lower(values []string) []string {
	for i, v := range values {
		values[i] = string(bytes.ToLower([]byte(v)))
	}
	return values
}
