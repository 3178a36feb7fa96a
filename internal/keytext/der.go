package keytext

import (
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	"crypto/rsa"
	stdasn1 "encoding/asn1"
	"fmt"
	"math"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of key algorithms: RFC 3279, RFC 4055, RFC 5480, RFC 8410.
var (
	oidRSA = stdasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidDSA = stdasn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}

	otherAlgorithms = map[string]string{
		"1.2.840.113549.1.1.10": "RSA-PSS",
		"1.2.840.113549.1.3.1":  "Diffie-Hellman",
		"1.2.840.10046.2.1":     "Diffie-Hellman",
		"1.2.840.10045.2.1":     "elliptic-curve (ECDSA)",
		"1.3.101.110":           "X25519",
		"1.3.101.111":           "X448",
		"1.3.101.112":           "Ed25519",
		"1.3.101.113":           "Ed448",
	}
)

// RSA reads an RSA public key. It checks that the numbers are positive and
// that the exponent fits, nothing else about them.
func RSA(text []byte) (*rsa.PublicKey, error) {
	der, err := decode(text)
	if err != nil {
		return nil, err
	}
	k, err := classify(der)
	if err != nil {
		return nil, err
	}
	pkcs1 := der
	if !k.pkcs1 {
		if !k.algorithm.Equal(oidRSA) {
			return nil, errAlgorithm(k.algorithm, "RSA")
		}
		// RFC 3279, section 2.3.1: the parameters are NULL.
		var null cryptobyte.String
		if !k.parameters.ReadASN1(&null, asn1.NULL) || !null.Empty() || !k.parameters.Empty() {
			return nil, errDamaged()
		}
		pkcs1 = k.key
	}
	in := cryptobyte.String(pkcs1)
	var seq cryptobyte.String
	n, e := new(big.Int), new(big.Int)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(n) || !seq.ReadASN1Integer(e) || !seq.Empty() ||
		n.Sign() <= 0 || e.Sign() <= 0 {
		return nil, errDamaged()
	}
	if !e.IsInt64() || e.Int64() > math.MaxInt32 {
		return nil, fmt.Errorf("%w: its exponent has more than 31 bits", ErrUnreadable)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// DSA reads a DSA public key. It checks that the numbers are positive, nothing
// else about them.
func DSA(text []byte) (*dsa.PublicKey, error) {
	der, err := decode(text)
	if err != nil {
		return nil, err
	}
	k, err := classify(der)
	if err != nil {
		return nil, err
	}
	if k.pkcs1 {
		return nil, errAlgorithm(oidRSA, "DSA")
	}
	if !k.algorithm.Equal(oidDSA) {
		return nil, errAlgorithm(k.algorithm, "DSA")
	}
	if k.parameters.Empty() || k.parameters.PeekASN1Tag(asn1.NULL) {
		return nil, fmt.Errorf("%w: it lacks the domain parameters p, q and g; ask the sender for a key that has them", ErrHalf)
	}
	var seq cryptobyte.String
	p, q, g, y := new(big.Int), new(big.Int), new(big.Int), new(big.Int)
	if !k.parameters.ReadASN1(&seq, asn1.SEQUENCE) || !k.parameters.Empty() ||
		!seq.ReadASN1Integer(p) || !seq.ReadASN1Integer(q) || !seq.ReadASN1Integer(g) || !seq.Empty() ||
		!k.key.ReadASN1Integer(y) || !k.key.Empty() ||
		p.Sign() <= 0 || q.Sign() <= 0 || g.Sign() <= 0 || y.Sign() <= 0 {
		return nil, errDamaged()
	}
	return &dsa.PublicKey{Parameters: dsa.Parameters{P: p, Q: q, G: g}, Y: y}, nil
}

// subject is what a public key's DER holds.
type subject struct {
	pkcs1      bool // the DER is an RSAPublicKey, and what follows is not set
	algorithm  stdasn1.ObjectIdentifier
	parameters cryptobyte.String
	key        cryptobyte.String
}

// classify finds out which of the structures der is that people take for a
// public key, and takes a SubjectPublicKeyInfo apart.
func classify(der []byte) (subject, error) {
	seq, err := sequence(der)
	if err != nil {
		return subject{}, err
	}
	switch {
	case seq.PeekASN1Tag(asn1.INTEGER):
		return classifyIntegers(seq)
	case seq.PeekASN1Tag(asn1.SEQUENCE):
	default:
		return subject{}, errDamaged()
	}

	var first cryptobyte.String
	if !seq.ReadASN1(&first, asn1.SEQUENCE) {
		return subject{}, errDamaged()
	}
	switch {
	case first.PeekASN1Tag(asn1.OBJECT_IDENTIFIER):
		if seq.PeekASN1Tag(asn1.OCTET_STRING) { // an encrypted PKCS #8
			return subject{}, errPrivateKey()
		}
	case first.PeekASN1Tag(asn1.Tag(0).ContextSpecific().Constructed()):
		return subject{}, errCertificate()
	case first.PeekASN1Tag(asn1.INTEGER):
		// A request goes on with a name, a certificate of version 1 with
		// an algorithm.
		var second cryptobyte.String
		if first.SkipASN1(asn1.INTEGER) && first.ReadASN1(&second, asn1.SEQUENCE) && second.PeekASN1Tag(asn1.OBJECT_IDENTIFIER) {
			return subject{}, errCertificate()
		}
		return subject{}, errRequest()
	}

	var k subject
	var bits stdasn1.BitString
	if !first.ReadASN1ObjectIdentifier(&k.algorithm) ||
		!seq.ReadASN1BitString(&bits) || !seq.Empty() || bits.BitLength%8 != 0 {
		return subject{}, errDamaged()
	}
	k.parameters, k.key = first, bits.Bytes
	return k, nil
}

// classifyIntegers does it for a SEQUENCE that begins with an INTEGER. Private
// keys (PKCS #1, PKCS #8, SEC 1, OpenSSL's DSA) begin with a version of 0 or 1;
// RSAPublicKey is two INTEGERs, DSA's domain parameters are three.
func classifyIntegers(seq cryptobyte.String) (subject, error) {
	first := new(big.Int)
	if !seq.ReadASN1Integer(first) {
		return subject{}, errDamaged()
	}
	if first.BitLen() <= 1 {
		return subject{}, errPrivateKey()
	}
	if seq.SkipASN1(asn1.INTEGER) && seq.Empty() {
		return subject{pkcs1: true}, nil
	}
	if seq.SkipASN1(asn1.INTEGER) && seq.Empty() {
		return subject{}, fmt.Errorf("%w: the domain parameters p, q and g without a key; ask the sender for the public key", ErrHalf)
	}
	return subject{}, errDamaged()
}

// sequence returns the content of the one SEQUENCE that der must be, and tells
// a cut-off one from one with bytes after it.
func sequence(der []byte) (cryptobyte.String, error) {
	header, length, ok := sequenceHeader(der)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin as a key does", ErrUnreadable)
	}
	if have := len(der) - header; have < length {
		return nil, fmt.Errorf("%w: %d of %d bytes are missing; copy the whole of it", ErrHalf, length-have, header+length)
	}
	content, after := der[header:header+length], der[header+length:]
	if len(after) > 0 {
		if header, length, ok := sequenceHeader(after); ok && header+length <= len(after) {
			return nil, fmt.Errorf("%w: pass each on its own", ErrTwo)
		}
		return nil, fmt.Errorf("%w: %d of them; remove them", ErrTrailing, len(after))
	}
	return content, nil
}

// sequenceHeader reads tag and length of a SEQUENCE of up to maxText bytes:
// one length byte below 128, or as many as the first says after 0x80.
func sequenceHeader(der []byte) (header, length int, ok bool) {
	if len(der) < 2 || der[0] != byte(asn1.SEQUENCE) {
		return 0, 0, false
	}
	if der[1] < 0x80 {
		return 2, int(der[1]), true
	}
	header = 2 + int(der[1]-0x80)
	if header < 3 || header > 5 || len(der) < header {
		return 0, 0, false
	}
	for _, b := range der[2:header] {
		length = length<<8 | int(b)
	}
	return header, length, true
}

func errAlgorithm(oid stdasn1.ObjectIdentifier, want string) error {
	name := otherAlgorithms[oid.String()]
	switch {
	case oid.Equal(oidRSA):
		name = "RSA"
	case oid.Equal(oidDSA):
		name = "DSA"
	case name == "":
		name = "unknown"
	}
	return fmt.Errorf("%w: %s instead of %s; is it another sender's?", ErrAlgorithm, name, want)
}

func errDamaged() error {
	return fmt.Errorf("%w: it is damaged inside; copy it again", ErrUnreadable)
}
