package rsasig_test

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/hooktrust/hooktrust/rsasig"
)

// publicKey is as SalesIQ's console shows one: Base64 without PEM armour.
const publicKey = `
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqDvO4/UYhnGUEImAEheJ
hb9pNrWmdtD23IvvVmMHJ6NoFjQFWVpJubSt0lYGBP96bBYTFUwhAhK1MOSbOJpI
0j+OiIRxxdiwHDzcB6A3eFTOXL6jXXySwbSCD2kUfZpEHDIw5wm3D1UlZPgrdtYD
xlmEH+kx+cbuAtnWnR6KJXrHhM4/Xv+oaPJkCOrPEjTghLi+7VyX303PDvLfwNMo
9Y6WosYsfcuZPzWkoyKFQ3BupApZknnIKmbVUGYOQtlz+g/VOscQunQBZQl1h9mg
0JEcJG+h+aERNjDahNp9W5B6Aqed2vY/VJ0FcDNEA/pEcHnERVr7EdwUwjFJv/Df
NwIDAQAB`

// signature is one that Java's SHA256withRSA has made; testdata has more.
const signature = "CRObpRuEeeO5/Gytm32XojuSXSt7Vi1lWYSrHTxWwZlnyaxP1CCY/pCygmx7K8vySzU365orQ7H0QVIK7DjVuDtP1OT6aEsG+dkWYg+zAGAWAwXj+cRNiPX/Itc7A64cz3EeBw0EeDToxsVtWFgm+bGTDBDWD99bTl/5ziSzxL+hKZS9e22YpOBysAqLe0fU1CR0UedDVSHApaLFeLyVZYs3KJyEwvDjQh69XiXn1zp78Ogtd6Lipv0eK9J+O6XKkOEI6rR0HU7n8V/s1zRND5nkKC3HeZ0cOC9rkIlinf7cAks07PQbhhoIhgK03/vwR4eTj4m2tVQrAAVXzzj0vw=="

func Example_salesIQ() {
	key, err := rsasig.ParsePublicKey([]byte(publicKey))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := rsasig.New(rsasig.SalesIQ(), key)
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set("x-siqsignature", signature)
	fmt.Println(v.Verify([]byte("The quick brown fox jumps over the lazy dog.\n"), header))
	err = v.Verify([]byte("The quick brown fox jumps over the lazy cat.\n"), header)
	fmt.Println(errors.Is(err, rsasig.ErrMismatch))
	// Output:
	// <nil>
	// true
}

func ExampleParsePublicKey() {
	_, err := rsasig.ParsePublicKey([]byte("-----BEGIN RSA PRIVATE KEY-----\n…"))
	fmt.Println(err)
	// Output: rsasig: this is a private key: a receiver needs the public one only; whoever could read this one can sign, so replace the pair
}
