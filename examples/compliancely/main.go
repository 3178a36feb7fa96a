// Command compliancely receives Compliancely's webhooks: it verifies a
// delivery, acknowledges it at once, and works on it afterwards.
//
//	COMPLIANCELY_SECRET=… go run ./examples/compliancely
//
// It is made to be copied. work.go holds what is yours to write, and this file
// the receiver around it.
//
// What has been acknowledged and not yet worked on is in memory: a signal to
// end waits for it, but a crash loses it, and Compliancely does not deliver
// again what it has had a 2xx for. If that must not be, give middleware.Ack the put
// of a durable queue in place of the Pool's.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const (
	path        = "/hooks/compliancely"
	defaultAddr = "127.0.0.1:8080" // loopback: what is public needs https, so something that ends TLS stands in front
)

func main() { os.Exit(program(work)) }

// program runs until it is told to end, and returns the exit status. Tests give
// it other work.
func program(work workFunc) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, os.Getenv, work); err != nil {
		slog.Error("compliancely: " + err.Error())
		return 1
	}
	return 0
}

// run receives until ctx is over, and then until all that was acknowledged is
// worked on.
func run(ctx context.Context, getenv func(string) string, work workFunc) error {
	c, err := configure(getenv)
	if err != nil {
		return err
	}
	rc, err := newReceiver(c, work)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("ADDR: %w", err)
	}
	slog.Info("listening", "addr", listener.Addr().String(), "path", path)
	return rc.serve(ctx, listener)
}

// config is what the environment says. Its secrets belong in no log.
type config struct {
	addr     string
	secrets  [][]byte // the current one and, during a rotation, the previous one
	encoding hmac.Encoding
}

func configure(getenv func(string) string) (config, error) {
	c := config{addr: getenv("ADDR")}
	if c.addr == "" {
		c.addr = defaultAddr
	}
	for _, name := range []string{"COMPLIANCELY_SECRET", "COMPLIANCELY_SECRET_PREVIOUS"} {
		secret := getenv(name)
		switch {
		case secret == "" && name == "COMPLIANCELY_SECRET":
			return config{}, errors.New("COMPLIANCELY_SECRET is not set: set it to the secret that you gave your webhook in Compliancely")
		case secret == "":
			continue
		case strings.ContainsAny(secret, "\r\n"):
			// All deliveries would be refused, and nothing would say why.
			return config{}, fmt.Errorf("%s has a line break in it, which would be part of the key: set it without", name)
		}
		c.secrets = append(c.secrets, []byte(secret))
	}
	// Compliancely does not document which it is. If it is the other one, all
	// deliveries are refused, and the log calls their signatures malformed.
	switch encoding := getenv("COMPLIANCELY_ENCODING"); encoding {
	case "", "hex":
		c.encoding = hmac.Hex
	case "base64":
		c.encoding = hmac.Base64
	default:
		return config{}, fmt.Errorf("COMPLIANCELY_ENCODING is %q: set it to hex or base64, or leave it out for hex", encoding)
	}
	return c, nil
}

// scheme returns how Compliancely signs.
func (c config) scheme() hmac.Scheme {
	s := hmac.Compliancely()
	s.Encoding = c.encoding
	return s
}

// receiver is what stands between the sender and work.
type receiver struct {
	guard *middleware.Guard
	pool  *middleware.Pool
}

func newReceiver(c config, work workFunc) (*receiver, error) {
	verifier, err := hmac.New(c.scheme(), c.secrets...)
	if err != nil {
		return nil, err
	}
	return &receiver{
		guard: &middleware.Guard{
			Verifier: verifier,
			Contract: middleware.Compliancely(),
			// Nothing tells how large a delivery is. The Pool may hold as many
			// bodies as it has places, and this bounds their memory.
			MaxBody: 256 << 10,
			// Store is left out: with one, equal bytes are a retry and not
			// worked on. But nothing tells that a status which changes there
			// and back is not the same bytes twice. If yours have a time or
			// an id in them, set middleware.NewMemoryStore(30*time.Minute, 0);
			// without, work must bear a delivery that comes again.
			// Observe is left out: slog.Default logs refusals, with the
			// reason. Set it to count outcomes for your metrics.
		},
		pool: middleware.NewPool(work, middleware.PoolOptions{
			Workers:  8,    // at one time: what your database or API likes
			Backlog:  1000, // more are answered 503, and Compliancely comes again
			Attempts: 5,    // within about 15 s: Backoff is left at exponential, with jitter
			Failed:   failed,
		}),
	}, nil
}

// handler receives deliveries, at whatever path.
func (rc *receiver) handler() http.Handler {
	return rc.guard.Handler(middleware.Ack(rc.pool.Put))
}

// server returns one that no client can hold up for long. net/http sets none
// of these limits but MaxHeaderBytes, which it sets to 1 MiB.
func (rc *receiver) server() *http.Server {
	mux := http.NewServeMux()
	mux.Handle(path, rc.handler()) // no method in the pattern: the Guard knows which methods a sender uses
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      rc.guard.Contract.Deadline + 5*time.Second, // less than the deadline would cut answers off
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

// How long each part may take to stop. Together they must be less than what
// your platform leaves between SIGTERM and SIGKILL: Kubernetes 30 s unless you
// say otherwise, docker stop 10 s, systemd 90 s.
const (
	serverTime = 12 * time.Second // a request under way has ReadTimeout to arrive
	guardTime  = 3 * time.Second  // Ack leaves nothing behind; a handler of yours may
	poolTime   = 10 * time.Second // the backlog, and pauses before further attempts
)

// serve receives until ctx is over or the server fails, and then stops in the
// order in which deliveries pass: nothing is closed while something before it
// may still hand it one.
func (rc *receiver) serve(ctx context.Context, listener net.Listener) error {
	server := rc.server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	var errs []error
	select {
	case <-ctx.Done():
		slog.Info("stopping")
	case err := <-served:
		errs = append(errs, err)
	}
	for _, part := range []struct {
		name  string
		limit time.Duration
		stop  func(context.Context) error
	}{
		{"server", serverTime, server.Shutdown}, // no new connections; requests under way are answered
		{"guard", guardTime, rc.guard.Shutdown}, // what comes now is answered 503
		{"pool", poolTime, rc.pool.Shutdown},    // what is not done in time goes to failed
	} {
		// ctx is over, and these have their own time.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), part.limit)
		if err := part.stop(limited); err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", part.name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}
