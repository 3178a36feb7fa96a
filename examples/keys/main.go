// Command keys is a receiver whose keys change while it runs: for Haptik, Zoho
// SalesIQ and Zoho ConvoKraft, whichever of them it is given keys of.
//
//	SALESIQ_PUBLIC_KEY_FILE=/keys/current SALESIQ_PUBLIC_KEY_PREVIOUS_FILE=/keys/previous go run .
//
// It is made to be copied. source.go and url.go are where keys come from,
// keeper.go keeps a Verifier up to date with them, and this file is the
// receiver around them.
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
	"sync"
	"syscall"
	"time"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/rsasig"
)

// How long each part may take to stop, one after the other: together less than
// the 30 s that Kubernetes waits between SIGTERM and SIGKILL.
const (
	serverTime = 12 * time.Second
	guardTime  = 10 * time.Second
)

func main() {
	o := options{getenv: os.Getenv, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	slog.SetDefault(o.log) // the Guards log refusals there
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "serve on `address`")
	flag.DurationVar(&o.files, "files", 5*time.Second, "look at files every `duration`")
	flag.DurationVar(&o.urls, "urls", 5*time.Minute, "look at URLs every `duration`")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "keys: takes no arguments") // and does not repeat what may be a key
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "keys:", err)
		os.Exit(1)
	}
}

type options struct {
	listen      string
	files, urls time.Duration // between looks
	getenv      func(string) string
	log         *slog.Logger
	transport   *http.Transport // for URLs; nil: one that trusts whom the system trusts
	ready       func(net.Addr)  // tests wait for it; may be nil
}

// Environment variables with each sender's key; names derived from them, with
// _PREVIOUS, _FILE, _PREVIOUS_FILE, _URL and _URL_TOKEN after them, are those of
// the other places.
const (
	haptikKey     = "HAPTIK_SECRET"
	salesiqKey    = "SALESIQ_PUBLIC_KEY"
	convokraftKey = "CONVOKRAFT_PUBLIC_KEY"
)

// newKeeper returns a keeper for the key in variable, or nil if none of the
// variables is set.
func (o options) newKeeper(sender, variable string) (*keeper, error) {
	k := &keeper{sender: sender, log: o.log}
	var places int
	if o.getenv(variable) != "" {
		places++
		k.source = &environment{getenv: o.getenv, current: variable, previous: variable + "_PREVIOUS"}
		k.every, k.slowest = 24*time.Hour, 24*time.Hour // SIGHUP is answered, but there is nothing to see
	}
	if path := o.getenv(variable + "_FILE"); path != "" {
		places++
		k.source = &files{current: path, previous: o.getenv(variable + "_PREVIOUS_FILE"), settle: 500 * time.Millisecond}
		k.every, k.slowest = o.files, o.files // no need to spare a disk
	}
	if address := o.getenv(variable + "_URL"); address != "" {
		places++
		f, err := newFetched(address, o.getenv(variable+"_URL_TOKEN"), o.transport)
		if err != nil {
			return nil, fmt.Errorf("%s_URL: %w", variable, err)
		}
		k.source = f
		k.every, k.slowest = o.urls, 8*o.urls
	}
	switch places {
	case 0:
		return nil, nil
	case 1:
		return k, nil
	}
	return nil, fmt.Errorf("set one of %s, %s_FILE and %s_URL, and not several", variable, variable, variable)
}

// receiver is what run has to serve and to stop.
type receiver struct {
	mux     *http.ServeMux
	guards  []*middleware.Guard
	keepers []*keeper
}

func newReceiver(ctx context.Context, o options) (*receiver, error) {
	rc := &receiver{mux: http.NewServeMux()}
	for _, sender := range []struct {
		variable string
		contract middleware.Contract
		keep     func(k *keeper) (middleware.Verifier, error)
	}{
		{haptikKey, middleware.Haptik(), func(k *keeper) (middleware.Verifier, error) { return keepHMAC(ctx, k, hmac.Haptik()) }},
		{salesiqKey, middleware.SalesIQ(), func(k *keeper) (middleware.Verifier, error) { return keepRSA(ctx, k, rsasig.SalesIQ()) }},
		{convokraftKey, middleware.ConvoKraft(), func(k *keeper) (middleware.Verifier, error) { return keepDSA(ctx, k, dsasig.ConvoKraft()) }},
	} {
		k, err := o.newKeeper(sender.contract.Sender, sender.variable)
		if err != nil {
			return nil, err
		}
		if k == nil {
			continue
		}
		verifier, err := sender.keep(k)
		if err != nil {
			return nil, err
		}
		guard := &middleware.Guard{Verifier: verifier, Contract: sender.contract}
		rc.mux.Handle("/hooks/"+sender.contract.Sender, guard.Handler(app(o.log)))
		rc.guards, rc.keepers = append(rc.guards, guard), append(rc.keepers, k)
	}
	if len(rc.keepers) == 0 {
		return nil, fmt.Errorf("no keys: set %s, %s or %s, or one of them with _FILE or _URL after it", haptikKey, salesiqKey, convokraftKey)
	}
	return rc, nil
}

// app is the application. It runs for verified deliveries only.
func app(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, ok := middleware.FromContext(r.Context())
		if !ok {
			// Somebody has mounted this without a Guard.
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		// The rotation is over when no delivery is by key 1 any more.
		log.Info("delivery", "sender", d.Sender, "size", len(d.Body), "key", d.Key)
		switch d.Sender { // your work, and your answer
		case "salesiq":
			answer(w, `{"action":"reply","replies":["Thank you."]}`)
		case "convokraft":
			answer(w, `{"status":"execution","message":"Thank you."}`)
		}
	})
}

func answer(w http.ResponseWriter, json string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, json) // fails only if the sender has gone, and then nobody is left to tell
}

// run receives until ctx is over or the server fails, and then stops in order.
func run(ctx context.Context, o options) error {
	if o.files <= 0 || o.urls <= 0 {
		return errors.New("the time between looks must be more than 0")
	}
	// Before anything else: a SIGHUP that nobody has asked for ends a program.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	rc, err := newReceiver(ctx, o)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	server := newServer(rc.mux, o.log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	keeping, stopKeeping := context.WithCancel(ctx)
	defer stopKeeping()
	kept := rc.keep(keeping, hangup)
	o.log.Info("listening", "addr", listener.Addr().String())
	if o.ready != nil {
		o.ready(listener.Addr())
	}

	select {
	case <-ctx.Done():
		o.log.Info("stopping")
	case err = <-served:
	}
	// A handler that has outlived its answer keeps its connection busy, so the
	// server's Shutdown may run out of time. The Guards know what is left.
	if stopErr := within(ctx, serverTime, server.Shutdown); !errors.Is(stopErr, context.DeadlineExceeded) {
		err = errors.Join(err, stopErr)
	}
	err = errors.Join(err, within(ctx, guardTime, func(ctx context.Context) error {
		var errs []error
		for _, guard := range rc.guards {
			errs = append(errs, guard.Shutdown(ctx))
		}
		return errors.Join(errs...)
	}))
	stopKeeping()
	kept.Wait()
	return errors.Join(err, server.Close())
}

// keep runs the keepers until ctx is over. Each hears of every hangup.
func (rc *receiver) keep(ctx context.Context, hangup <-chan os.Signal) *sync.WaitGroup {
	var group sync.WaitGroup
	asked := make([]chan os.Signal, len(rc.keepers))
	for i, k := range rc.keepers {
		asked[i] = make(chan os.Signal, 1)
		group.Go(func() { k.run(ctx, asked[i]) })
	}
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-hangup:
				for _, c := range asked {
					select {
					case c <- s:
					default: // it is to look already
					}
				}
			}
		}
	})
	return &group
}

// newServer returns a server that no client can hold up for long.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // longer than the contracts' deadlines, or the answer finds the connection closed
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// within calls f with a context that ends after limit, and not with ctx, which
// is over.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return f(ctx)
}
