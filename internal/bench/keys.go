package main

import (
	"bytes"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

// signed is a genuine delivery of body by a key pair.
type signed struct {
	verify func(body []byte, header http.Header) error // hooktrust's
	header http.Header
	digest []byte // of body, as long as the key wants it
	sig    []byte // what header has, decoded
	pkix   []byte // public key, as a SubjectPublicKeyInfo in DER
}

// side returns the side of a row that measures hooktrust.
func (d *signed) side() *side {
	return receiver{
		name: "hooktrust",
		sign: func(of string, _ []byte) (http.Header, error) {
			header := d.header.Clone()
			if of != secret { // a genuine signature by nobody: one bit is another
				sig := bytes.Clone(d.sig)
				sig[len(sig)-1] ^= 1
				for name := range header {
					header.Set(name, base64.StdEncoding.EncodeToString(sig))
				}
			}
			return header, nil
		},
		verify: d.verify,
	}.side()
}

type signedDSA struct {
	signed
	size [2]int // L and N in bits
	key  *dsa.PublicKey
	r, s *big.Int
}

func (d *signedDSA) String() string { return fmt.Sprintf("DSA (%d,%d)", d.size[0], d.size[1]) }

type signedRSA struct {
	signed
	key *rsa.PublicKey
}

// deliveries returns the same deliveries each time: one for each size of DSA
// key, and one of RSA.
var deliveries = sync.OnceValues(func() (*signedDeliveries, error) {
	var all signedDeliveries
	for _, size := range [][2]int{{1024, 160}, {2048, 224}, {2048, 256}, {3072, 256}} {
		d, err := signDSA(size)
		if err != nil {
			return nil, err
		}
		all.dsa = append(all.dsa, d)
	}
	var err error
	all.rsa, err = signRSA()
	return &all, err
})

type signedDeliveries struct {
	dsa []*signedDSA
	rsa *signedRSA
}

func signDSA(size [2]int) (*signedDSA, error) {
	// Making p and q takes seconds, so they are those of a test's key.
	text, err := testdata.PublicKey(fmt.Sprintf("dsa%d-%d-java-a", size[0], size[1]))
	if err != nil {
		return nil, err
	}
	public, err := dsasig.ParsePublicKey(text)
	if err != nil {
		return nil, err
	}
	key := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: public.Parameters}}
	if err := dsa.GenerateKey(key, rand.Reader); err != nil {
		return nil, err
	}
	v, err := dsasig.New(dsasig.ConvoKraft(), &key.PublicKey)
	if err != nil {
		return nil, err
	}
	value, err := dsasig.Sign(dsasig.ConvoKraft(), key, body)
	if err != nil {
		return nil, err
	}
	sig, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, err
	}
	var numbers struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &numbers); err != nil || len(rest) > 0 {
		return nil, errors.Join(errors.New("the signature is no SEQUENCE{r, s}"), err)
	}
	pkix, err := marshalDSA(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(body)
	return &signedDSA{
		signed: signed{
			verify: v.Verify,
			header: headers(dsasig.ConvoKraft().Header, value),
			digest: digest[:size[1]/8],
			sig:    sig,
			pkix:   pkix,
		},
		size: size,
		key:  &key.PublicKey,
		r:    numbers.R,
		s:    numbers.S,
	}, nil
}

// marshalDSA writes a key as x509.MarshalPKIXPublicKey does those that it knows.
func marshalDSA(key *dsa.PublicKey) ([]byte, error) {
	y, err := asn1.Marshal(key.Y)
	if err != nil {
		return nil, err
	}
	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params struct{ P, Q, G *big.Int }
	}
	a := algorithm{OID: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}}
	a.Params.P, a.Params.Q, a.Params.G = key.P, key.Q, key.G
	return asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{a, asn1.BitString{Bytes: y, BitLength: 8 * len(y)}})
}

func signRSA() (*signedRSA, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	v, err := rsasig.New(rsasig.SalesIQ(), &key.PublicKey)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(body)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, err
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &signedRSA{
		signed: signed{
			verify: v.Verify,
			header: headers(rsasig.SalesIQ().Header, base64.StdEncoding.EncodeToString(sig)),
			digest: digest[:],
			sig:    sig,
			pkix:   pkix,
		},
		key: &key.PublicKey,
	}, nil
}
