package hooktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"sync"
	"time"
)

const (
	// assumedDeadline stands in for a contract's that is 0.
	assumedDeadline = 10 * time.Second

	// patience is how long further answers of a kind are waited for once one
	// has not come in time, so that a receiver that hangs fails soon.
	patience = time.Second

	// settled is how long the number of effects must not change to count.
	settled = 20 * time.Millisecond
)

// target is the receiver under test, in a server of its own.
type target struct {
	sender   *Sender
	bodies   [][]byte
	deadline time.Duration
	addr     string
	client   *http.Client
	server   *http.Server

	mu      sync.Mutex
	waits   map[bool]time.Duration // for the answer, by whether it is to a genuine delivery
	answers []reply                // all so far
}

// serve starts a server for h. logs gets what the server logs.
func serve(h http.Handler, s *Sender, bodies [][]byte, logs *log.Logger) (*target, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if listener, err = net.Listen("tcp", "[::1]:0"); err != nil {
			return nil, fmt.Errorf("hooktest: %w", err)
		}
	}
	t := &target{
		sender:   s,
		bodies:   bodies,
		deadline: s.Contract.Deadline,
		addr:     listener.Addr().String(),
		// A connection for each request, so that none feels what became of
		// another.
		client: &http.Client{CheckRedirect: stay, Transport: &http.Transport{DisableKeepAlives: true}},
		server: &http.Server{Handler: h, ErrorLog: logs},
	}
	if t.deadline <= 0 {
		t.deadline = assumedDeadline
	}
	t.waits = map[bool]time.Duration{true: t.deadline, false: t.deadline}
	if s.Server != nil {
		s.Server(t.server)
	}
	go t.server.Serve(listener)
	return t, nil
}

// close stops the server. It waits for handlers, but not for ever.
func (t *target) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = t.server.Shutdown(ctx)
	_ = t.server.Close()
}

// order is a request to be made.
type order struct {
	what    string // for messages, such as "a delivery without a signature"
	method  string // "": POST
	body    []byte
	values  []string // of the signature header
	genuine bool
}

// reply is what the receiver made of an order.
type reply struct {
	order
	answer
	wait    time.Duration // how long it was waited for
	hurried bool          // that is less than the deadline
}

// String says what the receiver did.
func (r reply) String() string {
	switch {
	case r.late() && r.hurried:
		return fmt.Sprintf("gave no whole answer within %v (it is not waited for longer, since another has not come within the deadline)", r.wait)
	case r.late():
		return fmt.Sprintf("gave no whole answer within %v", r.wait)
	case r.err != nil && r.status == 0:
		return fmt.Sprintf("closed the connection without an answer (%v), as it does when it panics", r.err)
	case r.err != nil:
		return fmt.Sprintf("answered %s and broke off (%v)", statusLine(r.status), r.err)
	}
	return fmt.Sprintf("answered %s", statusLine(r.status))
}

// accepted reports whether the sender takes it for a success, size aside.
func (r reply) accepted() bool { return r.err == nil && r.ok() }

// refused reports whether it is a refusal, complete and the client's fault.
func (r reply) refused() bool { return r.err == nil && r.status >= 400 && r.status < 500 }

// genuine returns the delivery of body i as the sender makes it.
func (t *target) genuine(i int) (order, error) {
	signature, err := value(t.sender.Sign, t.bodies[i])
	return order{
		what:    fmt.Sprintf("a genuine delivery of body %d", i),
		body:    t.bodies[i],
		values:  []string{signature},
		genuine: true,
	}, err
}

// send makes the request and waits for the answer, as long as the sender does.
func (t *target) send(o order) reply {
	t.mu.Lock()
	r := reply{order: o, wait: t.waits[o.genuine]}
	t.mu.Unlock()
	r.hurried = r.wait < t.deadline
	if o.method == "" {
		o.method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.wait)
	defer cancel()
	req, err := newRequest(ctx, o.method, "http://"+t.addr+"/", o.body)
	if err != nil {
		r.err = err
		return r
	}
	if o.values != nil {
		req.Header[textproto.CanonicalMIMEHeaderKey(t.sender.Header)] = o.values
	}
	r.answer = exchange(t.client, req, t.sender.Contract.MaxResponse)
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.late() {
		t.waits[o.genuine] = min(t.waits[o.genuine], patience)
	}
	t.answers = append(t.answers, r)
	return r
}

// sendAll makes the requests at once.
func (t *target) sendAll(orders []order) []reply {
	replies := make([]reply, len(orders))
	var wg sync.WaitGroup
	for i, o := range orders {
		wg.Go(func() { replies[i] = t.send(o) })
	}
	wg.Wait()
	return replies
}

// recorded returns the answers so far.
func (t *target) recorded() []reply {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]reply(nil), t.answers...)
}

// effects returns the number of effects so far, or 0 if it cannot be seen.
func (t *target) effects() int {
	if t.sender.Effects == nil {
		return 0
	}
	return t.sender.Effects()
}

// effectsSettled returns the number of effects once it is least or more, or
// the deadline is over, and it no longer changes.
func (t *target) effectsSettled(least int) int {
	if t.sender.Effects == nil {
		return 0
	}
	end := time.Now().Add(t.deadline)
	n, since := t.effects(), time.Now()
	for time.Now().Before(end) && (n < least || time.Since(since) < settled) {
		time.Sleep(time.Millisecond)
		if now := t.effects(); now != n {
			n, since = now, time.Now()
		}
	}
	return n
}

// feeding is what became of a delivery whose body was fed by hand.
type feeding struct {
	status int           // of the answer; 0: none came
	ended  bool          // the receiver answered or closed the connection
	after  time.Duration // from the start until then
	sent   int64         // bytes of the body, framing included
}

// String says what the receiver did.
func (f feeding) String() string {
	switch {
	case f.status != 0:
		return fmt.Sprintf("answered %s after %v", statusLine(f.status), f.after.Round(time.Millisecond))
	case f.ended:
		return fmt.Sprintf("closed the connection after %v", f.after.Round(time.Millisecond))
	}
	return fmt.Sprintf("neither answered nor closed the connection within %v", f.after.Round(time.Millisecond))
}

func (f feeding) ok() bool { return f.status >= 200 && f.status < 300 }

// feed sends the head of a genuine delivery with the given framing, and then
// pieces until the receiver answers or hangs up. It waits for that no longer
// than limit.
func (t *target) feed(framing string, limit time.Duration, pieces iter.Seq[[]byte]) (feeding, error) {
	o, err := t.genuine(0)
	if err != nil {
		return feeding{}, err
	}
	start := time.Now()
	conn, err := net.DialTimeout("tcp", t.addr, limit)
	if err != nil {
		return feeding{}, fmt.Errorf("hooktest: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(start.Add(limit)) // fails on a closed connection only
	var f feeding
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		defer conn.Close() // ends the writing
		f.status, f.ended = readStatus(conn)
		f.after = time.Since(start)
	}()
	var sent int64
	// Where writing fails, the reading tells why.
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s: %s\r\n%s\r\n\r\n",
		t.addr, t.sender.Header, o.values[0], framing)
	for piece := range pieces {
		if isClosed(answered) {
			break
		}
		n, err := conn.Write(piece)
		sent += int64(n)
		if err != nil {
			break
		}
	}
	<-answered
	f.sent = sent
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers = append(t.answers, reply{order: order{what: "a delivery with " + framing}, answer: answer{status: f.status}})
	return f, nil
}

// readStatus returns the status of the answer. It reports whether there is one
// or the other side closed the connection.
func readStatus(conn net.Conn) (status int, ended bool) {
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, false
		case err != nil:
			return 0, true
		case resp.StatusCode >= 200:
			return resp.StatusCode, true
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
