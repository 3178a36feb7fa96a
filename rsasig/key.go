package rsasig

import (
	"crypto/rsa"
	"fmt"

	"github.com/hooktrust/hooktrust/internal/keytext"
)

// ParsePublicKey reads one RSA public key as people have it: a
// SubjectPublicKeyInfo in DER; that in Base64, on one line or several; PEM
// ("PUBLIC KEY" or "RSA PUBLIC KEY"), also with its line breaks lost to blanks
// or to literal \n as in environment variables, or inside quotes; and Base64 of
// a PEM.
//
// The error says what the text is instead (a private key, a certificate,
// another algorithm's key, half a key, two keys, …) and what to do. It contains
// nothing of the text. ParsePublicKey checks the form; New checks the numbers.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	key, err := keytext.RSA(text)
	if err != nil {
		return nil, fmt.Errorf("rsasig: %w", err)
	}
	if bits := key.N.BitLen(); bits > maxBits {
		return nil, fmt.Errorf("rsasig: the key has %d bits, more than %d", bits, maxBits)
	}
	return key, nil
}
