//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHangup sends SIGHUP to this process. The receiver would not look by
// itself within an hour.
func TestHangup(t *testing.T) {
	salesiq, haptik := kinds()["RSA"], kinds()["HMAC"]
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "salesiq"), filepath.Join(dir, "haptik")
	put(t, file, salesiq.pairs[0].text)
	put(t, secret, haptik.pairs[0].text)
	rn := startReceiver(t, map[string]string{
		"SALESIQ_PUBLIC_KEY_FILE": file, "HAPTIK_SECRET_FILE": secret,
	}, options{files: time.Hour, urls: time.Hour})
	hangup := func() { require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP)) }
	says := func(what string, times int) {
		t.Helper()
		require.Eventually(t, func() bool { return rn.log.count(what) == times }, 10*time.Second, 10*time.Millisecond, what)
	}
	says(sayInUse, 2)

	put(t, file, salesiq.pairs[1].text)
	hangup()
	says(sayInUse, 3)
	says(saySame, 1) // the other sender's
	assert.Equal(t, 200, rn.deliver(salesiq, salesiq.pairs[1]))
	assert.Equal(t, 401, rn.deliver(salesiq, salesiq.pairs[0]))
	assert.Equal(t, 200, rn.deliver(haptik, haptik.pairs[0]))

	put(t, file, salesiq.broken)
	hangup()
	says(sayFailing, 1)
	says(saySame, 2)
	assert.Equal(t, 200, rn.deliver(salesiq, salesiq.pairs[1]), "the key before stays")

	put(t, file, salesiq.pairs[2].text)
	hangup()
	says(sayGood, 1)
	says(sayInUse, 4)
	assert.Equal(t, 200, rn.deliver(salesiq, salesiq.pairs[2]))
	require.NoError(t, rn.stop())
	assertKeepsSecrets(t, rn.log.String(), append(salesiq.texts(), haptik.texts()...)...)
}

// TestPipeIsNotRead: it would be waited for until somebody writes to it.
func TestPipeIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	_, err := (&files{current: path}).Load(t.Context())
	require.ErrorContains(t, err, "not a regular file")
}
