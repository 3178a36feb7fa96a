//go:build !(cgo && openssl)

package main

import (
	"strings"
	"testing"
)

func TestProbeSaysWhatIsMissing(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0")
	if got, want := probe(), noOpenSSL+"; cgo is off"; got != want {
		t.Errorf("without cgo: %q, want %q", got, want)
	}
	t.Setenv("CGO_ENABLED", "1")
	t.Setenv("CC", "no-such-compiler")
	if got := probe(); !strings.HasPrefix(got, noOpenSSL) {
		t.Errorf("without a compiler: %q", got)
	}
}
