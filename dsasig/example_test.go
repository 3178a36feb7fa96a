package dsasig_test

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hooktrust/hooktrust/dsasig"
)

// publicKey and the signature below are those of RFC 6979, appendix A.2.2.
const publicKey = `
-----BEGIN PUBLIC KEY-----
MIIDRjCCAjkGByqGSM44BAEwggIsAoIBAQCdtvtZUbZrtv4eFA8dLOVQI3QWH9ZT
jfFkghhkLwtcSMj3pBqt+hhzJLh2dPoYIrAPHs+BNpQ9fFV1cmTloaRP/gEumTbg
DB0+kxCwHH0XmAXTBYsqn0u2+XFr/mEXxrWzzE2b40EQStSoCtbJTgBfS5k+FPCR
61F0O/MwUMON4jVWfhs0w9alwM6qGg82ghPD0ZhD0LSwncufxy05yN5B8b8U1LtF
Y8ooNxYhytMyS2otOSFFvr+sdIgFI29cov6SuHHNj5w20ykrVQnKjKp3oq38e/13
3ab3ESWnRW/qFT5DMlaiJhxqBu02k3l+eZX61aq7z74+2idB43VASuJbAiEA8sMR
k3TOdsk1aZC0ZTdKF/I/ntNQib2Wn2HG3emZjB8CggEAXH/2sG+PFD/oKIQzST5H
acTZiKzlviWg4kgJZwcWxhPXsM7mky+PqnxE0sskUj2lP75PbsNZWJLRqljEMooG
xGoVZi5+qnA6Hez4u7LQXb4uuVbBQqM4Zh0QRhwNE1RyCFBX80lDCf+nPGEfeLMq
27V0DDYcnzW+kJl9sgFOLvWqYXgvUqvri9ZDLE3Ql7xUI7KF2vtg3DZOgWH0oqNa
yjoQscTSA8x2pHCjOv3L3ZKVmFmr2LVuFyUlLXjqxm5xuprj8d0khxmYdDk81Ngy
GGgAZUdg4eNMCeTRVRefnsDcRHP5lr3Obu0cq+2LbxFvetnPUF3w+ZjjSrJ1FLD/
5wOCAQUAAoIBAGZwmMZUQmx41/ggHqxsID7wMNQ2BQMsLx+pN+Ujfb2UnzSgolZP
4Sbci3FcUUGALOCXnIJGRjxA5ra9qiUT+mEXKHFsLk/VO8lbieaZSdllEuhzucj4
39SZzDEoglYa3ssx9ljpNMDBl/LE2WsFy61nOB57doiR5No4Q9JNlM37USbpuL8h
6DWO4OCjDvE/1qZkwNzjcx9/tJpIRaT9glRoeXKi04JZnJusTg7XmYGTB4kTAyVY
E0l2QQuJ0sFx0SOsNf2XchlZeqfRXBqaQo5ZGU91xyHry8+uRGlqSZr6dOBCmfEy
AmYBY4y4ereRkNSgmGMV2o7sZWHJOJlr6t8=
-----END PUBLIC KEY-----`

func Example_convoKraft() {
	key, err := dsasig.ParsePublicKey([]byte(publicKey))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := dsasig.New(dsasig.ConvoKraft(), key)
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set("X-CONVOKRAFT-SIGNATURE", "MEUCIQDqzovbvjU8Qyp5XZ7FVsbQIfegP0LDbpvIfkrHkyzICQIgcIHhdUVfkke4ErdFg+npT56nm9ZA3JYlM7BoB5OjjVM=")
	fmt.Println(v.Verify([]byte("sample"), header))
	err = v.Verify([]byte("samples"), header)
	fmt.Println(errors.Is(err, dsasig.ErrMismatch))
	// Output:
	// <nil>
	// true
}

// ConvoKraft does not document its hash or its encoding. If deliveries are
// refused, these are the assumptions to change.
func ExampleScheme() {
	s := dsasig.ConvoKraft()
	s.Hash = crypto.SHA1     // as Java's SHA1withDSA
	s.Format = dsasig.P1363  // r and s side by side, as …inP1363Format
	s.Encoding = dsasig.Hex  // instead of Base64
	s.Prefix = "dsa="        // if something stands before it
	s.Header = "X-Signature" // for another sender
	fmt.Println(s.Hash)
	// Output: SHA-1
}

// A key from an environment variable has often lost its line breaks.
func ExampleParsePublicKey() {
	variable := `"` + strings.ReplaceAll(publicKey, "\n", `\n`) + `"`
	key, err := dsasig.ParsePublicKey([]byte(variable))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.P.BitLen(), key.Q.BitLen())

	_, err = dsasig.ParsePublicKey([]byte(variable[:700]))
	fmt.Println(err)
	// Output:
	// 2048 256
	// dsasig: this is half a key: the END line that belongs to its BEGIN line is missing; copy the whole of it
}
