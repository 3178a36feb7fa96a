package middleware_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// discard is for servers whose handlers panic on purpose.
var discard = log.New(io.Discard, "", 0)

// pipeServer serves over net.Pipe, so that a real http.Server runs on the
// false clock of testing/synctest.
type pipeServer struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func servePipe(t *testing.T, srv *http.Server) *pipeServer {
	t.Helper()
	p := &pipeServer{conns: make(chan net.Conn), done: make(chan struct{})}
	srv.ErrorLog = discard
	go srv.Serve(p)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return p
}

func (p *pipeServer) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeServer) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipeServer) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// dial connects to the server.
func (p *pipeServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, errors.New("the server is closed")
	}
}

// client returns an HTTP client for the server.
func (p *pipeServer) client(t *testing.T) *http.Client {
	transport := &http.Transport{DialContext: p.dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
