package dsasig

import (
	"crypto/dsa" //lint:ignore SA1019 the sender signs with DSA and offers nothing else
	"errors"
	"fmt"
	"math/big"

	"github.com/hooktrust/hooktrust/internal/keytext"
)

// maxBits is the length of the longest p, in bits.
const maxBits = 3072

// primalityRounds is how many Miller-Rabin rounds with random bases p and q
// must pass, beside the Baillie-PSW test that ProbablyPrime always makes. No
// composite is known that passes the latter.
const primalityRounds = 1

var one = big.NewInt(1)

// checkKey reports what is wrong with key. crypto/dsa does not: it accepts
// every signature with r = 1 under g = y = 1, works for seconds on a p of
// 65,536 bits, and panics on a nil number.
func checkKey(key *dsa.PublicKey) error {
	if err := checkForm(key); err != nil {
		return err
	}
	p, q := key.P, key.Q
	if new(big.Int).Mod(p, q).Cmp(one) != 0 {
		return errors.New("is damaged: q does not divide p-1")
	}
	if !q.ProbablyPrime(primalityRounds) || !p.ProbablyPrime(primalityRounds) {
		return errors.New("is damaged: p and q must be primes")
	}
	if new(big.Int).Exp(key.G, q, p).Cmp(one) != 0 || new(big.Int).Exp(key.Y, q, p).Cmp(one) != 0 {
		return errors.New("is damaged: g and y must have order q")
	}
	return nil
}

// checkForm is the part of checkKey that costs nothing.
func checkForm(key *dsa.PublicKey) error {
	if key == nil || key.P == nil || key.Q == nil || key.G == nil || key.Y == nil {
		return errors.New("is nil or incomplete")
	}
	p, q, g, y := key.P, key.Q, key.G, key.Y
	if p.Sign() <= 0 || q.Sign() <= 0 {
		return errors.New("is incomplete: p or q is not a positive number")
	}
	switch l, n := p.BitLen(), q.BitLen(); [2]int{l, n} {
	case [2]int{1024, 160}, [2]int{2048, 224}, [2]int{2048, 256}, [2]int{3072, 256}:
	default:
		return fmt.Errorf("has a p of %d bits and a q of %d bits; accepted are (1024, 160), (2048, 224), (2048, 256) and (3072, 256)", l, n)
	}
	if g.Cmp(one) <= 0 || g.Cmp(p) >= 0 || y.Cmp(one) <= 0 || y.Cmp(p) >= 0 {
		return errors.New("is degenerate: g and y must lie between 1 and p")
	}
	if p.Bit(0) == 0 || q.Bit(0) == 0 {
		return errors.New("is damaged: p and q must be odd")
	}
	return nil
}

// ParsePublicKey reads one DSA public key as people have it: a
// SubjectPublicKeyInfo in DER; that in Base64, on one line or several; PEM
// ("PUBLIC KEY"), also with its line breaks lost to blanks or to literal \n as
// in environment variables, or inside quotes; and Base64 of a PEM.
//
// The error says what the text is instead (a private key, a certificate,
// another algorithm's key, half a key, two keys, …) and what to do. It contains
// nothing of the text. ParsePublicKey checks the form; New checks the numbers.
func ParsePublicKey(text []byte) (*dsa.PublicKey, error) {
	key, err := keytext.DSA(text)
	if err != nil {
		return nil, fmt.Errorf("dsasig: %w", err)
	}
	if bits := key.P.BitLen(); bits > maxBits {
		return nil, fmt.Errorf("dsasig: the key has a p of %d bits, more than %d", bits, maxBits)
	}
	return key, nil
}
