// Command jetstream receives Haptik's webhooks and acknowledges each once it
// is stored in NATS JetStream: what was acknowledged is not lost by a crash.
//
//	HAPTIK_SECRET=… go run .
//
// run in this folder needs nothing else: nats-server runs in the process, with
// its files under -dir. With -nats it uses a cluster that exists.
//
// queue.go is made to be copied, and so is store.go; embedded.go and
// lock_*.go are the server in the process, and this file the receiver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const path = "/hooks/haptik"

func main() { os.Exit(program(os.Args[1:], work, QueueOptions{})) }

type workFunc = func(context.Context, *middleware.Delivery) error

// work is yours to write. It is called for each delivery, at least once: it
// must bear repetition, for which Delivery.ID is the same. It should heed ctx.
// If it returns an error it is called again after a pause, and after the last
// attempt the delivery goes to the dead letters.
func work(ctx context.Context, d *middleware.Delivery) error {
	// YOUR CODE HERE: decode d.Body and act on it.
	slog.InfoContext(ctx, "worked on", "id", d.ID(), "size", len(d.Body))
	return nil
}

// program runs until it is told to end, and returns the exit status. Tests give
// it other work and other options.
func program(args []string, work workFunc, o QueueOptions) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	c, err := configure(args, os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		slog.Error("jetstream: " + err.Error())
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once, and loses nothing that was acknowledged
	if err := run(ctx, c, work, o); err != nil {
		slog.Error("jetstream: " + err.Error())
		return 1
	}
	return 0
}

// config is what the command line and the environment say. Its secrets belong
// in no log.
type config struct {
	addr     string
	dir      string // of the embedded server
	listen   string // the embedded server's address for other clients, or ""
	nats     string // URLs of a cluster, or "" for the embedded server
	creds    string
	replicas int
	maxBytes int64
	workers  int
	store    bool
	secrets  [][]byte // the current one and, during a rotation, the previous one
}

func configure(args []string, getenv func(string) string, out io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("jetstream", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "receive on `address`")
	flags.StringVar(&c.dir, "dir", "data", "keep the embedded server's files in `folder`")
	flags.StringVar(&c.listen, "nats-listen", "", "let the nats command reach the embedded server on loopback `address`")
	flags.StringVar(&c.nats, "nats", "", "use the cluster at `URLs`, comma-separated, and no embedded server")
	flags.StringVar(&c.creds, "creds", "", "authenticate to the cluster with the credentials in `file`")
	flags.IntVar(&c.replicas, "replicas", 1, "servers of the cluster that each keep every delivery")
	flags.Int64Var(&c.maxBytes, "max-bytes", 1<<30, "answer 503 when so many bytes wait")
	flags.IntVar(&c.workers, "workers", 16, "deliveries worked on at one time; 0: only receive")
	flags.BoolVar(&c.store, "store", false, "remember what was received in a key-value bucket too")
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	switch {
	case flags.NArg() > 0:
		return config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.nats == "" && c.replicas != 1:
		return config{}, errors.New("-replicas needs a cluster: set -nats")
	case c.nats == "" && c.creds != "":
		return config{}, errors.New("-creds is for a cluster: set -nats")
	case c.nats != "" && c.listen != "":
		return config{}, errors.New("-nats-listen is for the embedded server, and -nats leaves it out")
	}
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

// How long each part may take. Those of stopping must together be less than
// what your platform leaves between SIGTERM and SIGKILL: Kubernetes 30 s unless
// you say otherwise, docker stop 10 s, systemd 90 s.
const (
	startTime  = 30 * time.Second
	serverTime = 12 * time.Second // a request under way has ReadTimeout to arrive
	guardTime  = 3 * time.Second  // Ack leaves nothing behind; a handler of yours may
	workTime   = 10 * time.Second // attempts under way; what is not done goes back to the queue
)

// run receives and works until ctx is over, and then stops in the order in
// which deliveries pass: nothing is closed while something before it may still
// hand it one.
func run(ctx context.Context, c config, work workFunc, o QueueOptions) (err error) {
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()

	// Defers run in reverse: the connection is closed, then the server.
	var nc *nats.Conn
	broken := make(chan error, 1) // nobody writes to it if the server is not ours
	if c.nats == "" {
		e, err2 := startEmbedded(c.dir, c.listen)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, e.stop()) }()
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { broken <- e.watch(watching) }()
		nc, err = e.connect()
	} else {
		options := connection()
		if c.creds != "" {
			options = append(options, nats.UserCredentials(c.creds))
		}
		nc, err = nats.Connect(c.nats, options...)
	}
	if err != nil {
		return fmt.Errorf("connecting to NATS: %w", err)
	}
	defer nc.Close()

	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	contract := middleware.Haptik()
	o.Replicas, o.MaxBytes, o.Workers, o.Window = c.replicas, c.maxBytes, c.workers, Window(contract)
	queue, err := NewQueue(starting, js, o)
	if err != nil {
		return err
	}
	guard, err := newGuard(c, contract, nc.MaxPayload())
	if err != nil {
		return err
	}
	if c.store {
		guard.Store, err = NewStore(starting, js, StoreOptions{
			Replicas: c.replicas,
			Lease:    2 * contract.Deadline, // Ack never holds a claim for longer than the deadline
			Window:   Window(contract),
		})
		if err != nil {
			return err
		}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	if c.workers > 0 {
		if err := queue.Work(starting, work); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	server := newServer(guard, queue)
	slog.Info("listening", "addr", listener.Addr().String(), "path", path)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	var errs []error
	select {
	case <-ctx.Done():
		slog.Info("stopping")
	case err := <-served:
		errs = append(errs, err)
	case err := <-broken: // to be started again, by whatever supervises the program
		if err != nil {
			slog.Error("stopping", "err", err)
			errs = append(errs, err)
		}
	}
	for _, part := range []struct {
		name  string
		limit time.Duration
		stop  func(context.Context) error
	}{
		{"server", serverTime, server.Shutdown}, // no new connections; requests under way are answered
		{"guard", guardTime, guard.Shutdown},    // what comes now is answered 503
		{"queue", workTime, queue.Shutdown},     // attempts under way end
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

// connection returns what every connection is made with.
func connection() []nats.Option {
	return []nats.Option{
		nats.Name("hooktrust jetstream example"),
		nats.MaxReconnects(-1), // for ever
		// While the connection is away, Put fails at once: what is kept in a
		// buffer in memory is not stored.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: closed by this program
				slog.Warn("NATS is away", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { slog.Info("NATS is back", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { slog.Warn("NATS", "err", err) }),
	}
}

// newGuard returns the Guard. payload is the size of the largest message that
// the server takes.
func newGuard(c config, contract middleware.Contract, payload int64) (*middleware.Guard, error) {
	verifier, err := hmac.New(hmac.Haptik(), c.secrets...)
	if err != nil {
		return nil, err
	}
	maxBody := min(256<<10, MaxBody(payload)) // events are a few kilobytes
	if maxBody == 0 {
		return nil, fmt.Errorf("the server's max_payload of %d bytes is too small", payload)
	}
	return &middleware.Guard{Verifier: verifier, Contract: contract, MaxBody: maxBody}, nil
}

// newServer returns one that no client can hold up for long. net/http sets
// none of these limits but MaxHeaderBytes, which it sets to 1 MiB.
func newServer(guard *middleware.Guard, queue *Queue) *http.Server {
	mux := http.NewServeMux()
	mux.Handle(path, guard.Handler(middleware.Ack(queue.Put))) // no method in the pattern: the Guard knows which methods a sender uses
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      guard.Contract.Deadline + 5*time.Second, // less than the deadline would cut answers off
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}
