// Package signature holds what the hmac, rsasig and dsasig packages share: the
// errors they return, the reading of a signature header, and digests.
package signature

import (
	"errors"
	"fmt"
)

// The three ways in which a delivery fails to verify. The signature packages
// export these values under their own names.
var (
	ErrMissing   = errors.New("signature missing")
	ErrMalformed = errors.New("signature malformed")
	ErrMismatch  = errors.New("signature mismatch")
)

// Mismatch wraps ErrMismatch with what an operator should look at. It says how
// many keys were tried and nothing about their values.
func Mismatch(header string, keys int) error {
	return fmt.Errorf("%w: %s was tried with %s; it was made with another key, or the body was changed on its way here",
		ErrMismatch, header, Count(keys, "key"))
}

// Uninitialised is what a Verifier returns that was not made by New: it has no
// keys, so nothing matches.
func Uninitialised(pkg string) error {
	return fmt.Errorf("%w: the %s.Verifier has no keys; make it with %s.New", ErrMismatch, pkg, pkg)
}

// Forbidden is what a Verifier returns that was made where FIPS 140-only mode
// was suspended and is used where it is enforced.
func Forbidden(what string) error {
	return fmt.Errorf("%w: %s is not allowed under GODEBUG=fips140=only", ErrMismatch, what)
}

// Count returns "1 key", "2 keys" and so on.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
