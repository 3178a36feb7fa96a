package middleware_test

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

func Example() {
	v, err := hmac.New(hmac.Haptik(), []byte("secret_key"))
	if err != nil {
		log.Fatal(err)
	}
	app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, _ := middleware.FromContext(r.Context())
		fmt.Printf("%s delivered %s\n", d.Sender, d.Body)
	})
	guard := &middleware.Guard{Verifier: v, Contract: middleware.Haptik()}
	mux := http.NewServeMux()
	mux.Handle("/hooks/haptik", guard.Handler(app)) // no method in the pattern

	// What Haptik would send.
	const body = `{"event_name":"webhook_agent_chat_complete"}`
	signature, _ := hmac.Sign(hmac.Haptik(), []byte("secret_key"), []byte(body))
	for _, body := range []string{body, strings.Replace(body, "agent", "Agent", 1)} {
		r := httptest.NewRequest("POST", "/hooks/haptik", strings.NewReader(body))
		r.Header.Set("X-Hub-Signature", signature)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// haptik delivered {"event_name":"webhook_agent_chat_complete"}
	// 200
	// 401
}

// Check is for those who answer refusals themselves.
func ExampleGuard_Check() {
	v, err := hmac.New(hmac.Compliancely(), []byte("secret"))
	if err != nil {
		log.Fatal(err)
	}
	guard := &middleware.Guard{Verifier: v, Contract: middleware.Compliancely()}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := guard.Check(w, r)
		if err != nil {
			// err is for the log, not for the client.
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "%d bytes by key %d", len(d.Body), d.Key)
	})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
	fmt.Println(w.Code)
	// Output: 403
}

// Observe replaces the log, and is the place to count.
func ExampleGuard_observe() {
	v, err := hmac.New(hmac.Haptik(), []byte("secret_key"))
	if err != nil {
		log.Fatal(err)
	}
	guard := &middleware.Guard{
		Verifier: v,
		Contract: middleware.Haptik(),
		Observe: func(_ *http.Request, res middleware.Result) {
			fmt.Println(res.Sender, res.Outcome, res.Status, errors.Is(res.Err, hmac.ErrMissing))
			fmt.Println(res.Err)
		},
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	guard.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// haptik refused 401 true
	// middleware: not verified: signature missing: the request has no X-Hub-Signature
}

// A sender that is not among the four is a Scheme and a Contract of your own.
func ExampleGuard_anotherSender() {
	scheme := hmac.Scheme{Header: "X-Hub-Signature-256", Prefix: "sha256=", Hash: crypto.SHA256}
	v, err := hmac.New(scheme, []byte("It's a Secret to Everybody"))
	if err != nil {
		log.Fatal(err)
	}
	guard := &middleware.Guard{
		Verifier: v,
		Contract: middleware.Contract{Sender: "github", Deadline: 10 * time.Second},
		MaxBody:  25 << 20,
	}
	handler := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	r := httptest.NewRequest("POST", "/", strings.NewReader("Hello, World!"))
	r.Header.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 Hello, World!
}
