package signature

import (
	"crypto"
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// MaxDigest is the size of the longest digest, in bytes.
const MaxDigest = sha512.Size

// NewHash returns the constructor of h, or an error if no sender's scheme may
// use h here and now.
func NewHash(h crypto.Hash) (func() hash.Hash, error) {
	switch h {
	case crypto.SHA1:
		if fips140.Enforced() {
			return nil, fmt.Errorf("SHA-1 is not allowed under GODEBUG=fips140=only")
		}
		return sha1.New, nil
	case crypto.SHA224:
		return sha256.New224, nil
	case crypto.SHA256:
		return sha256.New, nil
	case crypto.SHA384:
		return sha512.New384, nil
	case crypto.SHA512:
		return sha512.New, nil
	}
	return nil, fmt.Errorf("the Scheme's Hash %d is not one of SHA1, SHA224, SHA256, SHA384 and SHA512", uint(h))
}

// Digest returns the digest of body in buf. NewHash has accepted h.
func Digest(buf *[MaxDigest]byte, h crypto.Hash, body []byte) []byte {
	switch h {
	case crypto.SHA1:
		d := sha1.Sum(body)
		return buf[:copy(buf[:], d[:])]
	case crypto.SHA224:
		d := sha256.Sum224(body)
		return buf[:copy(buf[:], d[:])]
	case crypto.SHA256:
		d := sha256.Sum256(body)
		return buf[:copy(buf[:], d[:])]
	case crypto.SHA384:
		d := sha512.Sum384(body)
		return buf[:copy(buf[:], d[:])]
	case crypto.SHA512:
		d := sha512.Sum512(body)
		return buf[:copy(buf[:], d[:])]
	}
	panic("signature: Digest with a hash that NewHash refuses")
}
