package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Errors that Pool.Put returns, both to be answered with 503 as Ack does: the
// sender tries again.
var (
	// ErrPoolFull means that the Pool holds as many deliveries as it may.
	ErrPoolFull = errors.New("middleware: the Pool is full")

	// ErrPoolClosed means that Shutdown has been called. The error that
	// PoolOptions.Failed gets wraps it, too, if Shutdown gave up the delivery.
	ErrPoolClosed = errors.New("middleware: the Pool was shut down")
)

var (
	errNilDelivery  = errors.New("middleware: Pool.Put of a nil Delivery")
	errCallPanicked = errors.New("work panicked; the log has the stack")
	errCallExited   = errors.New("work ended its goroutine; the log has the stack")
)

// Pauses of the default Backoff.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// PoolOptions says how a Pool works. The zero value is usable; negative
// numbers mean the same as 0.
type PoolOptions struct {
	// Workers is how many deliveries are worked on at one time. 0 means
	// GOMAXPROCS.
	Workers int

	// Backlog is how many deliveries may wait besides those that the workers
	// have: the Pool never holds more than Workers + Backlog. 0 means that
	// Put succeeds only if there is a worker for the delivery at once.
	//
	// A delivery that waits for its next attempt counts, but it keeps no
	// worker: others are worked on meanwhile.
	//
	// The Pool may take as much memory as Workers + Backlog deliveries, each
	// with a body of up to Guard.MaxBody bytes and its header.
	Backlog int

	// Attempts is how often work is called for a delivery before it is given
	// up. 0 means 1.
	Attempts int

	// Backoff returns how long a delivery waits before it is worked on again.
	// attempt is the number of the attempt that has just failed, from 1.
	// A pause of 0 or less is none. Backoff must be safe for concurrent use.
	//
	// If nil, the pause is drawn at random from between half and the whole of
	// 1 s after the first attempt, and of twice as long after each further
	// one, up to 1 min: 0.5 to 1 s, 1 to 2 s, 2 to 4 s, and from the seventh
	// on 30 s to 1 min.
	Backoff func(attempt int) time.Duration

	// Failed is told, once each, of the deliveries that are given up: those
	// whose last attempt failed, and those that Shutdown had no time for. It
	// is the last that the Pool knows of them. The error wraps that of the
	// last attempt, if one has failed, and ErrPoolClosed if Shutdown gave the
	// delivery up. A panic of work is an error that says so, without the
	// value.
	//
	// Failed must be safe for concurrent use, and should be quick: it keeps
	// its worker, and Shutdown waits for it. A panic in it is recovered and
	// logged by slog.Default() at Error, with the delivery's ID.
	//
	// If nil, slog.Default() logs at Error: the error, the delivery's ID and
	// what Delivery.LogValue shows, which is neither body nor header.
	Failed func(*Delivery, error)
}

// Pool works on deliveries in this process, after they have been
// acknowledged: its Put is made for Ack. What it holds is in memory only. A
// delivery that Put has accepted is worked on or given to Failed as long as
// the process lives and ends through Shutdown; a crash loses it. Where that
// must not be, give Ack the put of a durable queue.
//
// Deliveries are begun in the order of Put; those that are tried again are not.
// Its methods may be called concurrently.
type Pool struct {
	work     func(context.Context, *Delivery) error
	workers  int
	limit    int // deliveries held at one time
	attempts int
	backoff  func(attempt int) time.Duration
	failed   func(*Delivery, error)

	ctx    context.Context // work's
	cancel context.CancelFunc
	idle   chan struct{} // closed when the Pool is closed, empty and without workers

	mu        sync.Mutex
	closed    bool
	abandoned bool            // a Shutdown has taken deliveries away, so calls of work may outlive it
	running   int             // workers
	places    int             // deliveries in held, and those whose call of Failed has not returned
	last      uint64          // number of the latest delivery
	held      map[uint64]*job // not done and not given up
	queue     []*job          // of those, what waits for a worker

	// failing counts the calls of Failed. There are no new ones once a
	// Shutdown has run out of time and has emptied held.
	failing sync.WaitGroup
}

// job is a delivery that a Pool holds.
type job struct {
	number   uint64
	delivery *Delivery

	// Guarded by Pool.mu for all but the worker that has the job.
	failures int
	err      error // of the last attempt
}

// NewPool returns a Pool that calls work for every delivery, in at most
// o.Workers goroutines at one time; there are none while there is nothing to
// do. It panics if work is nil.
//
// An attempt succeeds if work returns nil. It fails if work returns an error,
// panics, or ends its goroutine with [runtime.Goexit]. The latter two harm
// nothing else, and slog.Default() logs them at Error, with the stack and
// without the panic's value, which may hold a part of the body. For the same
// reason the error should hold none: Failed's default logs it.
//
// work may be called more than once for a delivery, but not at the same time,
// and must not change it. Its context holds nothing of the request that
// brought the delivery, and is cancelled only if the context of a Shutdown
// ends before the Pool is drained.
func NewPool(work func(context.Context, *Delivery) error, o PoolOptions) *Pool {
	if work == nil {
		panic("middleware: NewPool without work")
	}
	p := &Pool{
		work:     work,
		workers:  o.Workers,
		attempts: max(o.Attempts, 1),
		backoff:  o.Backoff,
		failed:   o.Failed,
		idle:     make(chan struct{}),
		held:     make(map[uint64]*job),
	}
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
	}
	backlog := min(max(o.Backlog, 0), math.MaxInt-p.workers)
	p.limit = p.workers + backlog
	if p.backoff == nil {
		p.backoff = defaultBackoff
	}
	if p.failed == nil {
		p.failed = logFailed
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Put gives d to the Pool, which keeps it: the caller must not change it
// afterwards. Put never blocks. nil means that d will be worked on, or given
// to Failed; any error means that it will be neither. The error is ErrPoolFull,
// ErrPoolClosed, one that wraps ctx.Err() if ctx has ended already (whoever
// waited for the answer has none), or another if d is nil. Once Put has
// returned, ctx has no meaning to the Pool.
func (p *Pool) Put(ctx context.Context, d *Delivery) error {
	if d == nil {
		return errNilDelivery
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("middleware: Pool.Put: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrPoolClosed
	case p.places >= p.limit:
		return ErrPoolFull
	}
	p.places++
	p.last++
	j := &job{number: p.last, delivery: d}
	p.held[j.number] = j
	p.start(j)
	return nil
}

// Shutdown stops the intake at once, so that Put returns ErrPoolClosed, and
// waits until every delivery is done or given to Failed, further attempts and
// the pauses before them included. Then all of the Pool's goroutines have
// ended and it returns nil.
//
// If ctx ends first, Shutdown cancels the context of work, gives every
// delivery that is not done to Failed, one after the other, and returns an
// error that wraps ctx.Err() and says how many they are. It does not wait for
// calls of work that still run, even if they heed their context; what they
// return is ignored, so that a delivery which one of them completes after all
// has been given to Failed nevertheless. Another Shutdown waits for them.
//
// Stop the server and shut down the Guard before the Pool, because both may
// still call Put. work and Failed must not call Shutdown, which waits for them.
func (p *Pool) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.checkIdle()
	p.mu.Unlock()
	select {
	case <-p.idle:
		return nil
	default:
	}
	select {
	case <-p.idle:
		return nil
	case <-ctx.Done():
	}

	left, abandoned := p.takeAll()
	p.cancel()
	for _, j := range left {
		err := fmt.Errorf("%w before the delivery was done: %w", ErrPoolClosed, ctx.Err())
		if j.failures > 0 {
			err = fmt.Errorf("%w; attempt %d of %d had failed: %w", err, j.failures, p.attempts, j.err)
		}
		p.tellFailed(j, err)
	}
	p.failing.Wait()
	if !abandoned {
		// All was done when ctx ended. The workers are on their way out: they
		// have nothing left to call that could hold them up.
		<-p.idle
		return nil
	}
	return fmt.Errorf("middleware: Pool.Shutdown: %d deliveries not done: %w", len(left), ctx.Err())
}

// takeAll takes all deliveries away, from whatever they are waiting for and
// from the workers, and returns them in the order of Put. The caller must call
// tellFailed for each. It also reports whether this or an earlier takeAll has
// taken any.
func (p *Pool) takeAll() (left []*job, abandoned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(p.held)) {
		left = append(left, p.held[number])
	}
	clear(p.held)
	p.queue = nil
	p.failing.Add(len(left))
	p.abandoned = p.abandoned || len(left) > 0
	return left, p.abandoned
}

// start gives j to a new worker, or lets it wait for one. p.mu is held.
func (p *Pool) start(j *job) {
	if p.running < p.workers {
		p.running++
		go p.worker(j)
		return
	}
	p.queue = append(p.queue, j)
}

// worker works on j and then on what waits, until nothing does.
func (p *Pool) worker(j *job) {
	for ; j != nil; j = p.next() {
		err := call("work", j.delivery, func() error { return p.work(p.ctx, j.delivery) })
		switch {
		case err == nil:
			p.done(j)
		case j.failures+1 < p.attempts:
			p.again(j, err)
		default:
			p.giveUp(j, fmt.Errorf("middleware: attempt %d of %d failed: %w", j.failures+1, p.attempts, err))
		}
	}
}

// next returns a delivery for a worker that has none. If it returns nil the
// worker must end.
func (p *Pool) next() *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.queue = nil
		p.running--
		p.checkIdle()
		return nil
	}
	j := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	return j
}

// checkIdle closes p.idle when it is time to. p.mu is held.
func (p *Pool) checkIdle() {
	if !p.closed || p.places > 0 || p.running > 0 {
		return
	}
	select {
	case <-p.idle:
	default:
		close(p.idle)
	}
}

// take reports whether the Pool still holds j, and lets go of it. It does not
// if Shutdown has given j up while work ran. p.mu is held.
func (p *Pool) take(j *job) bool {
	_, ok := p.held[j.number]
	delete(p.held, j.number)
	return ok
}

func (p *Pool) done(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.take(j) {
		p.places--
	}
}

// again has j worked on once more after its pause.
func (p *Pool) again(j *job, err error) {
	var pause time.Duration
	if call("Backoff", j.delivery, func() error { pause = p.backoff(j.failures + 1); return nil }) != nil {
		pause = defaultBackoff(j.failures + 1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.held[j.number]; !ok {
		return
	}
	j.failures++
	j.err = err
	if pause <= 0 {
		p.queue = append(p.queue, j) // this worker is free for it or for another
		return
	}
	time.AfterFunc(pause, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, ok := p.held[j.number]; ok {
			p.start(j)
		}
	})
}

func (p *Pool) giveUp(j *job, err error) {
	p.mu.Lock()
	ok := p.take(j)
	if ok {
		p.failing.Add(1)
	}
	p.mu.Unlock()
	if ok {
		p.tellFailed(j, err)
	}
}

// tellFailed calls Failed and then frees j's place.
func (p *Pool) tellFailed(j *job, err error) {
	_ = call("Failed", j.delivery, func() error { p.failed(j.delivery, err); return nil })
	p.mu.Lock()
	p.places--
	p.checkIdle()
	p.mu.Unlock()
	p.failing.Done()
}

// call calls f, which is named name, in a goroutine of its own, so that
// neither a panic nor a runtime.Goexit in it reaches the caller. Both are
// returned as errors, and logged with the stack, because nobody else can know it.
func call(name string, d *Delivery, f func() error) error {
	ended := make(chan error, 1)
	go func() {
		err, returned := errCallExited, false
		defer func() {
			how := " ended its goroutine"
			if recover() != nil { // the value is not shown: it may hold anything
				err, how = errCallPanicked, " panicked"
			}
			if !returned {
				slog.Default().Error("webhook pool: "+name+how,
					slog.Any("delivery", d), slog.String("id", d.ID()), slog.String("stack", string(debug.Stack())))
			}
			ended <- err
		}()
		err = f()
		returned = true
	}()
	return <-ended
}

// logFailed is Failed's default.
func logFailed(d *Delivery, err error) {
	slog.Default().Error("webhook delivery given up",
		slog.Any("delivery", d), slog.String("id", d.ID()), slog.Any("err", err))
}

// defaultBackoff is Backoff's default.
func defaultBackoff(attempt int) time.Duration {
	pause := firstPause
	for i := 1; i < attempt && pause < longestPause; i++ {
		pause *= 2
	}
	pause = min(pause, longestPause)
	return pause/2 + rand.N(pause/2+1)
}
