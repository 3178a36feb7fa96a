package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hooktrust/hooktrust/middleware"
)

// QueueOptions says what a Queue keeps and how it is worked on. Zero values
// and negative numbers mean the defaults named. All receivers of one queue
// should say the same: the latest that starts sets the stream's limits and the
// consumer's.
type QueueOptions struct {
	Name     string        // of the stream; "" means HOOKS
	Replicas int           // servers of a cluster that each keep every delivery: 1, 3 or 5; 0 means 1
	Window   time.Duration // a retry within it is stored once; see Window; 0 means 2 min
	MaxBytes int64         // that may wait on disk; Put fails beyond it; 0 means 1 GiB
	MaxMsgs  int64         // deliveries that may wait; Put fails beyond it; 0: no limit but MaxBytes

	Workers     int           // deliveries that this process works on at one time; 0 means 16
	MaxInFlight int           // begun and not done, in all processes, pauses before another attempt included; 0 means 1000
	Attempts    int           // how often one is tried before it goes to the dead letters; 0 means 10
	AttemptTime time.Duration // how long one attempt may take; 0 means 30 s

	// Backoff returns the pause after the given attempt has failed, from 1.
	// If nil, it is drawn from between half and the whole of 1 s, 2 s, 4 s, …,
	// up to 5 min.
	Backoff func(attempt int) time.Duration
}

const (
	ackMargin    = 5 * time.Second  // what a worker has for acknowledging after AttemptTime
	requestTime  = 5 * time.Second  // for one request to JetStream that no caller limits
	pullTime     = 10 * time.Second // a worker asks again after it; two heartbeats of a quarter missed: its consumer has gone
	restartPause = time.Second      // before a worker whose consumer has gone tries again
	maxWaiting   = 4096             // workers of all processes that may wait for a delivery
	maxCause     = 500              // bytes of an error that a dead letter carries
)

// Queue keeps deliveries in a JetStream stream until they are worked on. Its
// Put is for middleware.Ack: when it returns nil, the delivery is stored, on
// as many servers as QueueOptions.Replicas says. Whether it is on disk too
// depends on the servers: see sync_interval in README.md.
//
// A delivery that was put is worked on at least once. It is worked on again if
// the process ends before the work is acknowledged, so work must bear
// repetition. Order is not kept.
//
// Queue's methods may be called concurrently.
type Queue struct {
	js      jetstream.JetStream
	o       QueueOptions
	subject string // of deliveries
	dead    string // of dead letters

	mu        sync.Mutex
	work      func(context.Context, *middleware.Delivery) error // nil before Work
	iterators map[jetstream.MessagesContext]bool                // one for each worker
	closed    bool

	stopping chan struct{} // closed by Shutdown
	workers  sync.WaitGroup
	ctx      context.Context // work's, and that of requests
	cancel   context.CancelFunc
}

// NewQueue makes the stream of o.Name and the one for its dead letters, or
// changes their limits if they exist.
func NewQueue(ctx context.Context, js jetstream.JetStream, o QueueOptions) (*Queue, error) {
	if o.Name == "" {
		o.Name = "HOOKS"
	}
	o.Replicas = or(o.Replicas, 1)
	o.Window = or(o.Window, 2*time.Minute)
	o.MaxBytes = or(o.MaxBytes, 1<<30)
	o.MaxMsgs = or(o.MaxMsgs, -1)
	o.Workers = or(o.Workers, 16)
	o.MaxInFlight = or(o.MaxInFlight, 1000)
	o.Attempts = or(o.Attempts, 10)
	o.AttemptTime = or(o.AttemptTime, 30*time.Second)
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	q := &Queue{
		js: js, o: o,
		subject:   o.Name + ".deliveries",
		dead:      o.Name + ".dead",
		iterators: make(map[jetstream.MessagesContext]bool),
		stopping:  make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	for _, config := range []jetstream.StreamConfig{{
		Name:       o.Name,
		Subjects:   []string{q.subject},
		Retention:  jetstream.WorkQueuePolicy, // a delivery leaves when it is acknowledged, and not before: there is no MaxAge
		Discard:    jetstream.DiscardNew,      // a full queue refuses; by default it would drop the oldest
		MaxBytes:   o.MaxBytes,
		MaxMsgs:    o.MaxMsgs,
		Storage:    jetstream.FileStorage,
		Replicas:   o.Replicas,
		Duplicates: o.Window,
	}, {
		Name:     q.deadStream(),
		Subjects: []string{q.dead},
		Discard:  jetstream.DiscardNew, // full: what cannot be buried stays in the queue
		MaxBytes: o.MaxBytes / 4,
		Storage:  jetstream.FileStorage,
		Replicas: o.Replicas,
	}} {
		if _, err := js.CreateOrUpdateStream(ctx, config); err != nil {
			return nil, fmt.Errorf("queue: stream %s: %w", config.Name, err)
		}
	}
	return q, nil
}

func (q *Queue) deadStream() string { return q.o.Name + "_DEAD" }

// or returns n, or otherwise if n is not positive.
func or[T int | int64 | time.Duration](n, otherwise T) T {
	if n > 0 {
		return n
	}
	return otherwise
}

// Window returns how long a sender goes on with a delivery: through all of the
// contract's retries, each of which may take the deadline. It is at least
// 2 min.
func Window(c middleware.Contract) time.Duration {
	w := c.Deadline
	for _, pause := range c.Retries {
		w += pause + c.Deadline
	}
	return max(w, 2*time.Minute)
}

// backoff is QueueOptions.Backoff's default.
func backoff(attempt int) time.Duration {
	pause := time.Second << min(attempt-1, 20)
	pause = min(pause, 5*time.Minute)
	return pause/2 + rand.N(pause/2+1)
}

// MaxBody returns the largest body in bytes that fits a message of at most
// payload bytes, which is what nats.Conn.MaxPayload returns: 1 MiB unless the
// server says otherwise. The body becomes Base64 in JSON, and the request's
// header, of at most 20 KiB, may grow to six times its size.
func MaxBody(payload int64) int64 { return max(payload-128<<10, 0) / 4 * 3 }

// Put stores d. nil means that JetStream has it, or has had it: a delivery
// whose ID was stored within the window is not stored again. (A server that is
// started again remembers of these only the ones that still wait.) Any error
// means that it may not be stored: the queue is full, the body too large, the
// server away, or there is no quorum. If ctx has no deadline, Put gives up
// after 5 s.
//
// The whole Delivery is stored as JSON, its header too.
func (q *Queue) Put(ctx context.Context, d *middleware.Delivery) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	_, err = q.js.PublishMsg(ctx, &nats.Msg{Subject: q.subject, Data: data},
		jetstream.WithMsgID(d.ID()), jetstream.WithExpectStream(q.o.Name))
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

var errClosed = errors.New("queue: it was shut down, or Work was called before")

// Work starts the workers, which call work for every delivery, and returns.
// Call it once, or never in a process that only receives.
//
// An attempt succeeds if work returns nil. If it returns an error or panics,
// the delivery is tried again after a pause; after the last attempt it goes to
// the dead letters, with the error, which should hold no secret and no body.
// The context of work ends after QueueOptions.AttemptTime, and if a Shutdown
// runs out of time. Work must heed it: soon after AttemptTime the delivery goes
// to another worker.
func (q *Queue) Work(ctx context.Context, work func(context.Context, *middleware.Delivery) error) error {
	consumer, err := q.consumer(ctx)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.work != nil {
		return errClosed
	}
	q.work = work
	for range q.o.Workers {
		q.workers.Go(func() { q.worker(consumer) })
	}
	return nil
}

// consumer makes the consumer that all processes share, if it is not there.
func (q *Queue) consumer(ctx context.Context) (jetstream.Consumer, error) {
	consumer, err := q.js.CreateOrUpdateConsumer(ctx, q.o.Name, jetstream.ConsumerConfig{
		Durable:       "workers",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       q.o.AttemptTime + ackMargin,
		MaxAckPending: q.o.MaxInFlight,
		MaxWaiting:    maxWaiting,
		// JetStream would leave a delivery where it is after the last
		// attempt. bury moves it, so JetStream must offer it once more.
		MaxDeliver: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("queue: consumer of %s: %w", q.o.Name, err)
	}
	return consumer, nil
}

// worker works on one delivery after the other until Shutdown.
func (q *Queue) worker(consumer jetstream.Consumer) {
	for {
		err := q.pull(consumer)
		for err != nil {
			select {
			case <-q.stopping:
				return
			default:
			}
			slog.Warn("queue: a worker has lost its consumer", "err", err)
			select {
			case <-q.stopping:
				return
			case <-time.After(restartPause):
			}
			ctx, cancel := context.WithTimeout(q.ctx, requestTime)
			consumer, err = q.consumer(ctx)
			cancel()
		}
	}
}

// pull works on deliveries as long as consumer gives any, and returns why it
// does not any more.
func (q *Queue) pull(consumer jetstream.Consumer) error {
	// One at a time, when the worker is free for it: what waits in a buffer
	// here would be redelivered while it waits, and be out of others' reach.
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(1),
		jetstream.PullExpiry(pullTime), jetstream.PullHeartbeat(pullTime/4))
	if err != nil {
		return err
	}
	defer iterator.Stop()
	if !q.register(iterator) {
		return errClosed
	}
	defer q.unregister(iterator)
	for {
		msg, err := iterator.Next()
		if err != nil { // no heartbeat may mean that the consumer has gone
			return err
		}
		q.handle(msg)
	}
}

func (q *Queue) register(it jetstream.MessagesContext) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.iterators[it] = true
	}
	return !q.closed
}

func (q *Queue) unregister(it jetstream.MessagesContext) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.iterators, it)
}

// handle makes one attempt at msg and tells JetStream how it went. If JetStream
// cannot be told, it redelivers msg.
func (q *Queue) handle(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		slog.Error("queue: a message without metadata", "err", err)
		return
	}
	// This counts attempts that a crash has ended, too. A delivery that
	// crashes its workers is tried as often as any other.
	attempt := int(meta.NumDelivered)
	d := new(middleware.Delivery)
	switch err := json.Unmarshal(msg.Data(), d); {
	case err != nil:
		q.bury(msg, meta, errors.New("it is not the JSON of a Delivery"))
		return
	case attempt > q.o.Attempts:
		q.bury(msg, meta, errors.New("the last attempt was not completed"))
		return
	}
	err = q.attempt(d)
	switch {
	case err == nil:
		q.ack(msg, d)
		return
	case q.ctx.Err() != nil: // Shutdown is out of time; another process may go on at once
		err = msg.Nak()
	case attempt >= q.o.Attempts:
		q.bury(msg, meta, err)
		return
	default:
		slog.Warn("queue: an attempt has failed", "id", d.ID(), "attempt", attempt, "err", err)
		err = msg.NakWithDelay(q.o.Backoff(attempt))
	}
	if err != nil {
		slog.Warn("queue: not told that an attempt has failed", "id", d.ID(), "err", err)
	}
}

// attempt calls work.
func (q *Queue) attempt(d *middleware.Delivery) (err error) {
	ctx, cancel := context.WithTimeout(q.ctx, q.o.AttemptTime)
	defer cancel()
	defer func() {
		if recover() != nil { // the value is not shown: it may hold anything
			slog.Error("queue: work panicked", "id", d.ID(), "stack", string(debug.Stack()))
			err = errors.New("work panicked; the log has the stack")
		}
	}()
	return q.work(ctx, d)
}

// ack has msg removed from the queue, and waits until it is.
func (q *Queue) ack(msg jetstream.Msg, d *middleware.Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.ctx), requestTime)
	defer cancel()
	if err := msg.DoubleAck(ctx); err != nil {
		slog.Warn("queue: done and not acknowledged; it may be worked on again", "id", d.ID(), "err", err)
	}
}

// bury moves msg to the dead letters. If it cannot, msg stays in the queue, and
// is buried after a pause.
func (q *Queue) bury(msg jetstream.Msg, meta *jetstream.MsgMetadata, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.ctx), requestTime)
	defer cancel()
	sequence := strconv.FormatUint(meta.Sequence.Stream, 10)
	text := strings.Join(strings.Fields(cause.Error()), " ") // one line
	text = strings.ToValidUTF8(text[:min(len(text), maxCause)], "")
	letter := &nats.Msg{Subject: q.dead, Data: msg.Data(), Header: nats.Header{
		"Hooktrust-Attempts": {strconv.Itoa(min(int(meta.NumDelivered), q.o.Attempts))},
		"Hooktrust-Error":    {text},
	}}
	id := msg.Headers().Get(nats.MsgIdHdr)
	// First there, then gone from here. In between, it is in both for a moment.
	_, err := q.js.PublishMsg(ctx, letter, jetstream.WithMsgID(sequence), jetstream.WithExpectStream(q.deadStream()))
	if err == nil {
		slog.Error("queue: a delivery is given up and lies with the dead letters",
			"id", id, "stream", q.deadStream(), "attempts", letter.Header.Get("Hooktrust-Attempts"), "err", text)
		err = msg.DoubleAck(ctx)
	} else {
		err = errors.Join(err, msg.NakWithDelay(q.o.Backoff(int(meta.NumDelivered))))
	}
	if err != nil {
		slog.Error("queue: a delivery that is given up stays in the queue", "id", id, "err", err)
	}
}

// Shutdown stops taking deliveries from the queue and waits for the attempts
// under way. Put is not stopped: stop the server and the Guard before. If ctx
// ends first, the context of work ends, what was under way goes back to the
// queue, and Shutdown waits 2 s more at the most. What is in the queue stays
// there for the next start or for another process.
//
// Close the connection after Shutdown.
func (q *Queue) Shutdown(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.stopping)
	}
	for it := range q.iterators {
		it.Drain() // a delivery that is on its way to a worker is worked on
	}
	q.mu.Unlock()
	done := make(chan struct{})
	go func() {
		q.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		q.cancel()
		return nil
	case <-ctx.Done():
	}
	q.cancel()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	return fmt.Errorf("queue: Shutdown: attempts were broken off: %w", ctx.Err())
}
