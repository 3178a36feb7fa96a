//go:build cgo && openssl

package main

/*
#cgo LDFLAGS: -lcrypto
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static void empty(void) {}

// new_verifier returns a context that is ready to verify with the public key
// in der, or NULL. SHA-256 and PKCS #1 v1.5 are set if pkcs1 is.
static EVP_PKEY_CTX *new_verifier(const unsigned char *der, long len, int pkcs1) {
	EVP_PKEY *key = d2i_PUBKEY(NULL, &der, len);
	if (key == NULL) return NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	EVP_PKEY_free(key); // ctx keeps it
	if (ctx == NULL) return NULL;
	if (EVP_PKEY_verify_init(ctx) != 1 ||
	    (pkcs1 && (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1 ||
	               EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) != 1))) {
		EVP_PKEY_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

// verify verifies n times and returns how often the signature was accepted.
static long verify(EVP_PKEY_CTX *ctx, const unsigned char *sig, size_t siglen,
                   const unsigned char *digest, size_t len, long n) {
	long accepted = 0;
	for (long i = 0; i < n; i++) accepted += EVP_PKEY_verify(ctx, sig, siglen, digest, len) == 1;
	return accepted;
}

// new_mac returns a context of HMAC-SHA256 that has the key, or NULL.
static EVP_MAC_CTX *new_mac(const unsigned char *key, size_t len) {
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (mac == NULL) return NULL;
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac); // ctx keeps it
	if (ctx == NULL) return NULL;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	if (EVP_MAC_init(ctx, key, len, params) != 1) {
		EVP_MAC_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

// check_mac verifies n times and returns how often want was the body's MAC.
static long check_mac(EVP_MAC_CTX *ctx, const unsigned char *want,
                      const unsigned char *body, size_t len, long n) {
	long accepted = 0;
	for (long i = 0; i < n; i++) {
		unsigned char got[32];
		size_t size = 0;
		if (EVP_MAC_init(ctx, NULL, 0, NULL) == 1 && // the same key again
		    EVP_MAC_update(ctx, body, len) == 1 &&
		    EVP_MAC_final(ctx, got, &size, sizeof got) == 1 && size == sizeof got)
			accepted += CRYPTO_memcmp(got, want, sizeof got) == 0;
	}
	return accepted;
}
*/
import "C"

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"unsafe"

	"github.com/hooktrust/hooktrust/hmac"
)

// relay returns what is missing to measure OpenSSL: here, nothing.
func relay([]string, io.Writer, io.Writer) (missing string, done bool, err error) {
	return "", false, nil
}

// openSSLRows compares hooktrust with OpenSSL. The loops run in C, with one
// context for all turns, as a C program that wants to be fast would have it.
func openSSLRows() ([]*row, error) {
	all, err := deliveries()
	if err != nil {
		return nil, err
	}
	var rows []*row
	for i, d := range all.dsa {
		other, err := opensslVerify(&d.signed, false)
		if err != nil {
			return nil, err
		}
		rows = append(rows, &row{openSSLSubjects[i] + " beside OpenSSL", d.side(), other})
	}
	other, err := opensslVerify(&all.rsa.signed, true)
	if err != nil {
		return nil, err
	}
	rows = append(rows, &row{openSSLSubjects[4] + " beside OpenSSL", all.rsa.side(), other})
	ours, err := hmacVerify(hmac.Compliancely())
	if err != nil {
		return nil, err
	}
	if other, err = opensslHMAC(); err != nil {
		return nil, err
	}
	return append(rows, &row{openSSLSubjects[5] + " beside OpenSSL", ours.side(), other}), nil
}

// opensslVerify returns the side that verifies the signature of d's digest.
// What it allocates in C lives as long as the process.
func opensslVerify(d *signed, pkcs1 bool) (*side, error) {
	var padding C.int
	if pkcs1 {
		padding = 1
	}
	ctx := C.new_verifier(inC(d.pkix), C.long(len(d.pkix)), padding)
	if ctx == nil {
		return nil, errors.New("OpenSSL does not take the key")
	}
	sig := inC(d.sig)
	verify := func(digest *C.uchar, n int) int {
		return int(C.verify(ctx, sig, C.size_t(len(d.sig)), digest, C.size_t(len(d.digest)), C.long(n)))
	}
	tampered := bytes.Clone(d.digest)
	tampered[0] ^= 1
	return opensslSide(verify, inC(d.digest), inC(tampered)), nil
}

func opensslHMAC() (*side, error) {
	ctx := C.new_mac(inC([]byte(secret)), C.size_t(len(secret)))
	if ctx == nil {
		return nil, errors.New("OpenSSL has no HMAC-SHA256")
	}
	want := inC(mac(sha256.New, secret, body))
	verify := func(text *C.uchar, n int) int {
		return int(C.check_mac(ctx, want, text, C.size_t(len(body)), C.long(n)))
	}
	tampered := bytes.Clone(body)
	tampered[0] ^= 1
	return opensslSide(verify, inC(body), inC(tampered)), nil
}

func opensslSide(verify func(what *C.uchar, n int) int, genuine, tampered *C.uchar) *side {
	return &side{
		name: openSSL,
		check: func() error {
			if verify(genuine, 1) != 1 {
				return errors.New("refuses a genuine delivery")
			}
			if verify(tampered, 1) != 0 {
				return errors.New("accepts a tampered one")
			}
			return nil
		},
		loop: func(b *testing.B) error {
			b.ResetTimer()
			if accepted := verify(genuine, b.N); accepted != b.N {
				return fmt.Errorf("accepted %d of %d", accepted, b.N)
			}
			return nil
		},
	}
}

// inC returns a copy that C may keep.
func inC(p []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(C.CBytes(p))) }

// openSSLNote says what the rows of OpenSSL do not.
func openSSLNote() (string, error) {
	call := side{name: "empty call", loop: func(b *testing.B) error {
		for b.Loop() {
			C.empty()
		}
		return nil
	}}
	for range 5 {
		if err := call.measure(); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf(`Beside OpenSSL: this is %s, measured by loops in C
that reuse one context. For DSA and RSA it has the digest and the signature at
hand, while hooktrust reads the header and hashes the body. A call from Go to C
and back, here %s if it does nothing, is not in its times.`,
		C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION)), duration(call.median().ns)), nil
}
