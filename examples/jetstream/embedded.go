package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// readyTime is how long a server may take to start. One that finds a large
// store reads all of it.
const readyTime = time.Minute

// embedded is a nats-server in this process.
type embedded struct {
	server *server.Server
	lock   *os.File
}

// startEmbedded starts a server with its store in dir, which it makes if it is
// not there. Clients connect within the process; only if listen is an address
// and not "", others may too. They need no password, so it must be a loopback
// address.
func startEmbedded(dir, listen string) (*embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { // deliveries are about people
		return nil, err
	}
	// Two servers on one folder would destroy it.
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%s is used by another process: %w", dir, err)
	}
	options := &server.Options{
		ServerName: "hooktrust",
		JetStream:  true,
		StoreDir:   dir,
		// Every message is on disk before it is acknowledged. By default it
		// may not be for up to 2 minutes.
		SyncAlways: true,
		// The streams have limits of their own. The default is three quarters
		// of what is free on the disk, at each start: with a full queue the
		// server would not start again.
		JetStreamMaxStore: 1 << 50,
		DontListen:        true,
		NoSigs:            true, // main has the signals
	}
	if listen != "" {
		if err := setListen(options, listen); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	e, err := startServer(options)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &embedded{e, lock}, nil
}

// startServer starts a server and waits until it is ready.
func startServer(options *server.Options) (*server.Server, error) {
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(logger{}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(readyTime) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("nats-server is not ready after %v", readyTime)
	}
	return s, nil
}

func setListen(options *server.Options, listen string) error {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address, and the embedded server asks nobody for a password", listen)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return err
	}
	options.DontListen = false
	options.Host, options.Port = host, int(port)
	if port == 0 {
		options.Port = server.RANDOM_PORT
	}
	return nil
}

// connect returns a connection within the process.
func (e *embedded) connect() (*nats.Conn, error) {
	return nats.Connect("", append(connection(), nats.InProcessServer(e.server))...)
}

// watch returns an error when the server cannot store any more, and nil when
// ctx ends. After a write has failed, because the disk is full or broken, a
// stream takes nothing until the server is started again.
func (e *embedded) watch(ctx context.Context) error {
	for bad := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		health := e.server.Healthz(nil)
		if health.Error == "" {
			bad = 0
			continue
		}
		if bad++; bad == 3 {
			return errors.New("nats-server: " + health.Error)
		}
	}
}

// stop stops the server and waits until its files are closed.
func (e *embedded) stop() error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return e.lock.Close()
}

// logger passes a server's warnings and errors on to slog.
type logger struct{}

func (logger) Warnf(format string, v ...any) { slog.Warn("nats-server: " + fmt.Sprintf(format, v...)) }
func (logger) Errorf(format string, v ...any) {
	slog.Error("nats-server: " + fmt.Sprintf(format, v...))
}
func (logger) Fatalf(format string, v ...any) {
	slog.Error("nats-server: " + fmt.Sprintf(format, v...))
}
func (logger) Noticef(string, ...any) {}
func (logger) Debugf(string, ...any)  {}
func (logger) Tracef(string, ...any)  {}
