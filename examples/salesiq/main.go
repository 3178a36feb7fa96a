// Command salesiq is a bot for Zoho SalesIQ to start from: a Zobot whose
// answers come from a webhook.
//
//	SALESIQ_PUBLIC_KEY_FILE=salesiq.pub go run ./examples/salesiq
//
// It answers what SalesIQ has signed, in time even if the bot is slow, and
// nothing else. README.md says how to try it and what to change. think.go is
// the bot's work and yours to replace; request.go and answer.go are what goes
// over the wire; receiver.go holds the two together, and this file starts and
// stops them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// path is where SalesIQ delivers. The URL that you enter there is https and
// has no port number, so something in front of this program ends TLS. It must
// pass the body on as it is, and wait longer than the 10 s that SalesIQ does.
const path = "/hooks/salesiq"

// How long a stop may take, one part after the other. Together they stay below
// the 30 s that Kubernetes waits between SIGTERM and SIGKILL.
const (
	serverTime = 12 * time.Second // answers that are under way: SalesIQ waits 10 s for one
	guardTime  = 15 * time.Second // work that has outlived its answer
	cancelTime = time.Second      // work that has been told to end
)

func main() {
	o := options{getenv: os.Getenv, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "serve on `address`")
	flag.DurationVar(&o.slow, "slow", 0, "let the bot take `duration` to think, to see the late answer")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "salesiq: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "salesiq:", err)
		os.Exit(1)
	}
}

type options struct {
	listen string
	slow   time.Duration
	getenv func(string) string
	log    *slog.Logger
}

// run serves until ctx is over, and then stops in order.
func run(ctx context.Context, o options) error {
	verifier, err := newVerifier(o.getenv)
	if err != nil {
		return err
	}
	b := &bot{think: think, log: o.log}
	if o.slow > 0 {
		b.think = slowly(o.slow, think)
	}
	receiver, guard := newReceiver(verifier, b, o.log)
	mux := http.NewServeMux()
	mux.Handle(path, receiver) // no method in the pattern: the Guard answers SalesIQ's unsigned HEAD, too

	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	o.log.Info("listening", "addr", listener.Addr().String(), "path", path)
	return serve(ctx, listener, newServer(mux, o.log), guard)
}

// newServer returns a server that no client can hold up for long.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // longer than the contract's deadline, or the answer finds the connection closed
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serve serves until ctx is over or the server fails. What is under way then
// is finished.
func serve(ctx context.Context, listener net.Listener, server *http.Server, guard *middleware.Guard) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	return errors.Join(err, stop(context.WithoutCancel(ctx), server, guard))
}

// stop ends the server and then the Guard. The order matters: a Guard that is
// shut down answers 503, so it comes when nothing new can arrive.
func stop(ctx context.Context, server *http.Server, guard *middleware.Guard) error {
	// Over HTTP/1 a handler that has outlived its answer keeps its connection
	// busy, so this waits for it, too, and may well run out of time.
	err := within(ctx, serverTime, server.Shutdown)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the Guard knows better whether anything is left to wait for
	}
	guardErr := within(ctx, guardTime, guard.Shutdown)
	if guardErr != nil {
		// The contexts of what still runs have ended. Another Shutdown waits
		// until that is heeded; the first one's error says how many they were.
		_ = within(ctx, cancelTime, guard.Shutdown)
	}
	// The connections that Shutdown did not wait for.
	return errors.Join(err, guardErr, server.Close())
}

// within calls f with a context that ends after limit.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}
