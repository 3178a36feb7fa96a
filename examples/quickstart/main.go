// Command quickstart shows on real HTTP what hooktrust does: a genuine
// delivery runs the handler, every other request is refused and does not.
//
//	go run ./examples/quickstart
//
// starts a receiver on a loopback port, plays Haptik, Compliancely, Zoho
// SalesIQ and Zoho ConvoKraft against it, sends it the deliveries of testdata
// that Java, OpenSSL and Python have signed, and prints how each was judged.
// The exit status is 1 if one was judged wrongly.
//
//	go run ./examples/quickstart -listen 127.0.0.1:8080
//
// keeps the receiver running and prints curl commands to try by hand.
//
// This file is the receiver, and what to copy. senders.go plays the senders,
// vectors.go the other implementations, report.go judges, and listen.go is for
// trying by hand.
package main

import (
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/rsasig"
	"github.com/hooktrust/hooktrust/testdata"
)

func main() {
	o := options{routes: (*receiver).routes, cases: testdata.Cases}
	flag.StringVar(&o.listen, "listen", "", "keep running on `address`, such as 127.0.0.1:8080, and print curl commands")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

type options struct {
	listen string                          // "": judge deliveries and end
	routes routes                          // tests put wrong receivers here
	cases  func() ([]testdata.Case, error) // the other implementations' deliveries
}

type routes func(rc *receiver, app http.Handler, observe func(*http.Request, middleware.Result)) *http.ServeMux

func run(ctx context.Context, out io.Writer, o options) error {
	senders, k, err := newSenders()
	if err != nil {
		return err
	}
	rc, err := newReceiver(k)
	if err != nil {
		return err
	}
	if o.listen != "" {
		return serve(ctx, out, o, senders, rc)
	}
	return prove(ctx, out, o, senders, k, rc)
}

// keys is what a receiver is configured with: the current key of each sender
// and, during a rotation, the previous one. Yours come from where you keep
// secrets; rsasig.ParsePublicKey and dsasig.ParsePublicKey read what the
// consoles of SalesIQ and ConvoKraft show.
type keys struct {
	haptik, compliancely [][]byte
	salesiq              []*rsa.PublicKey
	convokraft           []*dsa.PublicKey
}

// receiver holds one Verifier per sender.
type receiver struct {
	haptik, compliancely *hmac.Verifier
	salesiq              *rsasig.Verifier
	convokraft           *dsasig.Verifier
}

func newReceiver(k keys) (*receiver, error) {
	var rc receiver
	var errs [4]error
	rc.haptik, errs[0] = hmac.New(hmac.Haptik(), k.haptik...)
	rc.compliancely, errs[1] = hmac.New(hmac.Compliancely(), k.compliancely...)
	rc.salesiq, errs[2] = rsasig.New(rsasig.SalesIQ(), k.salesiq...)
	rc.convokraft, errs[3] = dsasig.New(dsasig.ConvoKraft(), k.convokraft...)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return &rc, nil
}

// setKeys changes the keys while the receiver runs: once with the new key
// before the previous one when a rotation begins, and once without the previous
// one when no delivery by it is on its way any more.
func (rc *receiver) setKeys(k keys) error {
	return errors.Join(
		rc.haptik.SetKeys(k.haptik...),
		rc.compliancely.SetKeys(k.compliancely...),
		rc.salesiq.SetKeys(k.salesiq...),
		rc.convokraft.SetKeys(k.convokraft...),
	)
}

// routes mounts app behind one Guard per sender.
func (rc *receiver) routes(app http.Handler, observe func(*http.Request, middleware.Result)) *http.ServeMux {
	mux := http.NewServeMux()
	mount := func(path string, v middleware.Verifier, c middleware.Contract) {
		guard := &middleware.Guard{Verifier: v, Contract: c, Observe: observe}
		mux.Handle(path, guard.Handler(app)) // no method in the pattern: the Guard knows which methods a sender uses
	}
	mount("/hooks/haptik", rc.haptik, middleware.Haptik())
	mount("/hooks/compliancely", rc.compliancely, middleware.Compliancely())
	mount("/hooks/salesiq", rc.salesiq, middleware.SalesIQ())
	mount("/hooks/convokraft", rc.convokraft, middleware.ConvoKraft())
	return mux
}

// handle is the application. It runs for verified deliveries only.
func handle(w http.ResponseWriter, r *http.Request) {
	d, ok := middleware.FromContext(r.Context())
	if !ok {
		// Somebody has mounted this without a Guard.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	// Decode d.Body here and act on it: nothing else of the request is signed.
	switch d.Sender {
	case "salesiq": // the answer is what the bot says
		answer(w, `{"action":"reply","replies":["Thank you."]}`)
	case "convokraft":
		answer(w, `{"status":"execution","message":"Thank you."}`)
	default: // the status is all that is read
		w.WriteHeader(http.StatusOK)
	}
}

func answer(w http.ResponseWriter, json string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, json) // fails only if the sender has gone, and then nobody is left to tell
}

// newServer returns a server that no client can hold up for long. net/http
// sets none of these limits but MaxHeaderBytes, which it sets to 1 MiB.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // counted from the end of the request's header: ReadTimeout and the handler's time
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}

// serving calls work while h is served on address, and then lets the requests
// that are under way finish.
func serving(ctx context.Context, address string, h http.Handler, work func(ctx context.Context, base string) error) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := newServer(h)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := make(chan error, 1)
	go func() {
		err := server.Serve(listener)
		cancel(err) // a server that has failed ends the work
		served <- err
	}()
	workErr := work(ctx, baseURL(listener.Addr()))

	// ctx may be over already; the requests under way get their time all the same.
	limit, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	shutErr := server.Shutdown(limit)
	serveErr := <-served
	if errors.Is(serveErr, http.ErrServerClosed) {
		serveErr = nil
	}
	return errors.Join(workErr, shutErr, serveErr)
}

// baseURL returns a URL that reaches address from this machine.
func baseURL(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "http://" + address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
