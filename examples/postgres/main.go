// Command postgres receives webhooks and keeps them in PostgreSQL: a delivery
// is acknowledged when it is committed, and worked on afterwards.
//
//	DATABASE_URL=postgres://… HAPTIK_SECRET=… go run .
//
// It is made to be copied. queue.go is the queue, work.go holds what is yours
// to write, and this file the receiver around them. The sender is Haptik; for
// another, change the scheme and the contract in newReceiver.
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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const (
	path        = "/hooks/haptik"
	defaultAddr = "127.0.0.1:8080" // loopback: Haptik wants https, so something that ends TLS stands in front
)

func main() { os.Exit(program(work, QueueOptions{Failed: failed})) }

type workFunc = func(context.Context, *middleware.Delivery) error

// program runs until it is told to end, and returns the exit status. Tests give
// it other work.
func program(work workFunc, o QueueOptions) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, os.Getenv, work, o); err != nil {
		slog.Error("postgres: " + err.Error())
		return 1
	}
	return 0
}

// run receives until ctx is over. It fails if the server is away at the start;
// later it answers 503 while that lasts.
func run(ctx context.Context, getenv func(string) string, work workFunc, o QueueOptions) error {
	c, err := configure(getenv)
	if err != nil {
		return err
	}
	rc, err := newReceiver(ctx, c, work, o)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.addr)
	if err != nil {
		rc.close()
		return fmt.Errorf("ADDR: %w", err)
	}
	startCtx, cancel := context.WithTimeout(ctx, startTime)
	err = rc.queue.Start(startCtx)
	cancel()
	if err != nil {
		_ = listener.Close()
		rc.close()
		return err
	}
	slog.Info("listening", "addr", listener.Addr().String(), "path", path)
	return rc.serve(ctx, listener)
}

// config is what the environment says. Its secrets belong in no log.
type config struct {
	addr     string
	database *pgxpool.Config
	secrets  [][]byte // the current one and, during a rotation, the previous one
}

func configure(getenv func(string) string) (config, error) {
	c := config{addr: getenv("ADDR")}
	if c.addr == "" {
		c.addr = defaultAddr
	}
	url := getenv("DATABASE_URL")
	if url == "" {
		return config{}, errors.New("DATABASE_URL is not set: set it to postgres://user:password@host:5432/database")
	}
	var err error
	c.database, err = pgxpool.ParseConfig(url)
	if err != nil {
		return config{}, fmt.Errorf("DATABASE_URL: %w", err) // pgx leaves the password out
	}
	if !strings.Contains(url, "pool_max_conns") {
		// One listens, some work, and the rest are for deliveries: those that
		// arrive together and find no connection wait for one. A server takes
		// 100 unless told otherwise, from all receivers together.
		c.database.MaxConns = 20
	}
	// A server that does not answer must not use up the sender's deadline.
	c.database.ConnConfig.ConnectTimeout = min(c.database.ConnConfig.ConnectTimeout, 3*time.Second)
	for _, name := range []string{"HAPTIK_SECRET", "HAPTIK_SECRET_PREVIOUS"} {
		secret := getenv(name)
		switch {
		case secret == "" && name == "HAPTIK_SECRET":
			return config{}, errors.New("HAPTIK_SECRET is not set: set it to the secret_key that you share with Haptik")
		case secret == "":
			continue
		case strings.ContainsAny(secret, "\r\n"):
			// All deliveries would be refused, and nothing would say why.
			return config{}, fmt.Errorf("%s has a line break in it, which would be part of the key: set it without", name)
		}
		c.secrets = append(c.secrets, []byte(secret))
	}
	return c, nil
}

// receiver is what stands between the sender and work.
type receiver struct {
	guard *middleware.Guard
	queue *Queue
	pool  *pgxpool.Pool // of connections
}

// newReceiver connects to nothing yet.
func newReceiver(ctx context.Context, c config, work workFunc, o QueueOptions) (*receiver, error) {
	verifier, err := hmac.New(hmac.Haptik(), c.secrets...)
	if err != nil {
		return nil, err
	}
	contract := middleware.Haptik()
	if o.Remember == 0 {
		o.Remember = max(24*time.Hour, window(contract))
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), c.database)
	if err != nil {
		return nil, err
	}
	queue, err := NewQueue(pool, work, o)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &receiver{
		guard: &middleware.Guard{
			Verifier: verifier,
			Contract: contract,
			MaxBody:  256 << 10, // events are a few kilobytes
			// No Store: the table knows a retry, in all receivers at once.
			// Observe is left out: slog.Default logs refusals, with the
			// reason. Set it to count outcomes for your metrics.
		},
		queue: queue,
		pool:  pool,
	}, nil
}

// queued is how long Haptik keeps events for a webhook that it has disabled.
const queued = time.Hour

// window returns how long a delivery may come again: through all of the
// contract's retries, each of which may take the deadline, and through the time
// in Haptik's queue.
func window(c middleware.Contract) time.Duration {
	w := c.Deadline + queued
	for _, pause := range c.Retries {
		w += pause + c.Deadline
	}
	return w
}

// handler receives deliveries, at whatever path.
func (rc *receiver) handler() http.Handler {
	return rc.guard.Handler(middleware.Ack(rc.queue.Put))
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

// How long each part may take to start or stop. The latter together must be
// less than what your platform leaves between SIGTERM and SIGKILL: Kubernetes
// 30 s unless you say otherwise, docker stop 10 s, systemd 90 s. What a SIGKILL
// interrupts is worked on later.
const (
	startTime  = time.Minute      // migrations are quick on a new table, not on one of millions of rows
	serverTime = 12 * time.Second // a request under way has ReadTimeout to arrive
	guardTime  = 3 * time.Second  // Ack leaves nothing behind; a handler of yours may
	queueTime  = 5 * time.Second  // for work to finish; then hardTime for it to give up
	closeTime  = 2 * time.Second  // for connections that work has not given back
)

// serve receives until ctx is over or the server fails, and then stops in the
// order in which deliveries pass: nothing is closed while something before it
// may still hand it one.
func (rc *receiver) serve(ctx context.Context, listener net.Listener) error {
	server := rc.server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go rc.watch(watching)

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
		{"queue", queueTime, rc.queue.Shutdown}, // what is not done stays in the table
	} {
		// ctx is over, and these have their own time.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), part.limit)
		if err := part.stop(limited); err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", part.name, err))
		}
		cancel()
	}
	stopWatching()
	rc.close()
	return errors.Join(errs...)
}

// close closes the connections, and does not wait for ever for those in use.
func (rc *receiver) close() {
	closed := make(chan struct{})
	go func() {
		rc.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTime):
		slog.Warn("connections to the database are still in use")
	}
}

// watch logs the number of dead letters when it has changed, until ctx is over.
// failed is told of each at once, but not of those that died with a process.
func (rc *receiver) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for known := 0; ; {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		n, err := rc.queue.Dead(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.Warn("dead letters not counted", "err", err)
		case n != known:
			slog.Warn("dead letters", "count", n)
			known = n
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
