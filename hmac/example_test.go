package hmac_test

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/hooktrust/hooktrust/hmac"
)

func Example_haptik() {
	v, err := hmac.New(hmac.Haptik(), []byte("secret_key"))
	if err != nil {
		fmt.Println(err)
		return
	}
	body := []byte(`{"event_name":"webhook_agent_chat_complete"}`)
	header := http.Header{}
	header.Set("X-Hub-Signature", "sha1=08d93d2cf3c3a3b2b2a2b7aaeff2c2d3d8a5b0f1")
	err = v.Verify(body, header)
	fmt.Println(errors.Is(err, hmac.ErrMismatch))

	value, _ := hmac.Sign(hmac.Haptik(), []byte("secret_key"), body)
	header.Set("X-Hub-Signature", value)
	fmt.Println(v.Verify(body, header))
	// Output:
	// true
	// <nil>
}

func Example_compliancely() {
	// If your deliveries carry Base64 instead of hex, that is one line.
	scheme := hmac.Compliancely()
	scheme.Encoding = hmac.Base64

	v, err := hmac.New(scheme, []byte("the application's secret"))
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set("Compliancely-Signature", "3Q7d4YQxj/bOjHIdDEKGfWqDJHQJkmYV1Vwcz8ZsPjs=")
	err = v.Verify([]byte(`{}`), header)
	fmt.Println(errors.Is(err, hmac.ErrMismatch))
	// Output: true
}

// During a rotation both secrets are accepted, and VerifyKey tells when the
// previous one is no longer in use.
func ExampleVerifier_VerifyKey() {
	current, previous := []byte("current"), []byte("previous")
	v, err := hmac.New(hmac.Compliancely(), current, previous)
	if err != nil {
		fmt.Println(err)
		return
	}
	body := []byte(`{"status":"approved"}`)
	value, _ := hmac.Sign(hmac.Compliancely(), previous, body)
	header := http.Header{}
	header.Set("Compliancely-Signature", value)

	key, err := v.VerifyKey(body, header)
	fmt.Println(key, err)

	// The sender has moved on: forget the previous secret.
	if err := v.SetKeys(current); err != nil {
		fmt.Println(err)
	}
	_, err = v.VerifyKey(body, header)
	fmt.Println(errors.Is(err, hmac.ErrMismatch))
	// Output:
	// 1 <nil>
	// true
}

func ExampleSign() {
	// GitHub documents this answer: an X-Hub-Signature-256 in the form of a
	// Scheme of your own.
	s := hmac.Haptik()
	s.Header, s.Prefix, s.Hash = "X-Hub-Signature-256", "sha256=", hmac.Compliancely().Hash
	value, err := hmac.Sign(s, []byte("It's a Secret to Everybody"), []byte("Hello, World!"))
	fmt.Println(value, err)
	// Output: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17 <nil>
}
