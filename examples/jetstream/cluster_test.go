package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// cluster is servers on loopback that know each other.
type cluster struct {
	options []*server.Options
	servers []*server.Server
}

func startCluster(t *testing.T, size int) *cluster {
	t.Helper()
	c := &cluster{servers: make([]*server.Server, size)}
	ports := freePorts(t, 2*size)
	var routes []*url.URL
	for i := range size {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	for i := range size {
		c.options = append(c.options, &server.Options{
			ServerName: fmt.Sprintf("n%d", i),
			Host:       "127.0.0.1", Port: ports[size+i],
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]},
			Routes:  routes,
			NoSigs:  true,
		})
	}
	for i := range size {
		c.start(t, i)
	}
	t.Cleanup(func() {
		for i := range size {
			c.stop(i)
		}
	})
	return c
}

// freePorts returns ports that nothing listens on at the moment.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { assert.NoError(t, l.Close()) }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	s, err := startServer(c.options[i].Clone())
	require.NoError(t, err)
	c.servers[i] = s
}

func (c *cluster) stop(i int) {
	if c.servers[i] == nil {
		return
	}
	c.servers[i].Shutdown()
	c.servers[i].WaitForShutdown()
	c.servers[i] = nil
}

// urls are what -nats takes.
func (c *cluster) urls() string {
	var urls []string
	for _, o := range c.options {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(urls, ",")
}

// leader returns the index of the server that leads a stream.
func (c *cluster) leader(t *testing.T, js jetstream.JetStream, stream string) int {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	for i, o := range c.options {
		if o.ServerName == s.CachedInfo().Cluster.Leader {
			return i
		}
	}
	require.Fail(t, "no leader")
	return 0
}

// TestCluster stops one server of three under load, then another, which leaves
// no quorum, and starts both again.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	nc, err := nats.Connect(c.urls(), append(connection(), nats.ReconnectWait(100*time.Millisecond))...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	o := quick()
	o.Replicas = 3
	var q *Queue
	eventually(t, func() bool { // the servers elect a leader first
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		q, err = NewQueue(ctx, js, o)
		return err == nil
	}, time.Minute, "the streams are there")
	t.Cleanup(func() { shutdown(t, q) })
	counted := newCounter()
	require.NoError(t, q.Work(t.Context(), counted.work))

	contract := middleware.Haptik()
	contract.Deadline = 2 * time.Second // so that 503 comes sooner
	_, url := receive(t, q, contract)
	load := newLoad("cluster")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		load.run(ctx, t, url, 8, new(atomic.Bool))
	}()
	acknowledged := func() int { n, _ := load.count(0); return n }
	goesOn := func(what string) {
		before := acknowledged()
		eventually(t, func() bool { return acknowledged() > before+100 }, time.Minute, what)
	}

	goesOn("acknowledged by three servers")
	first := c.leader(t, js, "HOOKS")
	c.stop(first)
	goesOn("acknowledged by two servers")
	withTwo := acknowledged()

	second := (first + 1) % 3
	c.stop(second)
	quiet := acknowledged() // what was under way has its answer by then, or soon
	_, before := load.count(http.StatusServiceUnavailable)
	eventually(t, func() bool {
		_, refused := load.count(http.StatusServiceUnavailable)
		return refused >= before+40
	}, 30*time.Second, "answered 503 without a quorum")
	alone := acknowledged() - quiet
	_, refused := load.count(http.StatusServiceUnavailable)
	assert.LessOrEqual(t, alone, 8, "one server acknowledges alone")

	c.start(t, second)
	goesOn("acknowledged again by two servers")
	c.start(t, first)
	goesOn("acknowledged again by three servers")
	cancel()
	<-over

	eventually(t, func() bool { return counted.missing(load.acknowledged) == 0 }, time.Minute, "all that was acknowledged is worked on")
	different, repeated := counted.of()
	t.Logf("acknowledged %d, %d of them before the quorum was lost, %d answered 503 without a quorum; worked on %d, and %d times more than once; lost %d",
		len(load.acknowledged), withTwo, refused-before, different, repeated, counted.missing(load.acknowledged))
	for status := range load.statuses {
		assert.Contains(t, []int{200, 503}, status)
	}
}
