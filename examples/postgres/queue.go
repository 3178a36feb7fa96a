package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/hooktrust/hooktrust/middleware"
)

// This file is made to be copied as it is.

// QueueOptions says how a Queue works. The zero value is usable.
type QueueOptions struct {
	// Workers is how many deliveries this process works on at one time. 0
	// means 16. Any number of processes may work on one queue.
	Workers int

	// Attempts is how often work is called for a delivery before it is a dead
	// letter. 0 means 16.
	Attempts int

	// Backoff returns how long a delivery waits before it is worked on again.
	// attempt is the number of the attempt that has just failed, from 1. If
	// nil, the pause is drawn at random from between half and the whole of 1 s
	// after the first attempt, and of twice as long after each further one, up
	// to 1 h: 16 attempts take between 2 and 4 hours.
	Backoff func(attempt int) time.Duration

	// Timeout is how long one attempt may take: work's context ends then. 0
	// means 1 min. A delivery whose worker has died is begun again after twice
	// that, and so is one whose work does not heed its context.
	Timeout time.Duration

	// Remember is how long a delivery that was worked on stays in the table. A
	// retry that comes within that time is not stored again; one that comes
	// later is worked on as if it were new. It must be longer than the sender
	// retries. 0 means 24 h.
	Remember time.Duration

	// Failed is told of a delivery whose last attempt has failed, just before
	// it becomes a dead letter. It must be safe for concurrent use. It is not
	// told if the process dies in the last attempt: Dead counts those, too. If
	// nil, slog.Default() logs the error and the delivery's ID at Error.
	Failed func(*middleware.Delivery, error)
}

// Queue keeps deliveries in PostgreSQL until they have been worked on, as jobs
// of River. Its Put is made for middleware.Ack: what Put has accepted survives
// a kill of this process and of the server, and is worked on at least once.
// Its methods may be called concurrently.
type Queue struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

// Times that are not worth an option.
const (
	putTime  = 10 * time.Second      // for Put, if its context gives more
	hardTime = 5 * time.Second       // for work to end once its context has
	fetch    = 10 * time.Millisecond // between two looks for work; Workers / fetch is the limit of deliveries a second
)

const (
	jobKind   = "webhook_delivery"
	queueName = "webhooks"
)

// deliveryJob is what a row of river_job holds in args.
type deliveryJob struct {
	ID       string               `json:"id" river:"unique"` // and nothing else: header and time differ from retry to retry
	Delivery *middleware.Delivery `json:"delivery"`
}

func (deliveryJob) Kind() string { return jobKind }

// unique is by ID and over all states, so that a retry is stored once, whatever
// has become of the delivery by then. River's default leaves out cancelled and
// discarded.
var unique = river.UniqueOpts{ByArgs: true, ByState: rivertype.JobStates()}

// NewQueue returns a Queue that calls work for every delivery. Call Start
// before Put, and Shutdown before the pool's Close.
//
// An attempt succeeds if work returns nil. work must bear repetition: a process
// that dies between work and the note that it is done leaves a delivery that is
// worked on again. Its error is kept in the table and logged, so it should hold
// nothing of the body; a panic's value is not kept.
func NewQueue(pool *pgxpool.Pool, work func(context.Context, *middleware.Delivery) error, o QueueOptions) (*Queue, error) {
	if work == nil {
		return nil, errors.New("queue: no work")
	}
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	if o.Failed == nil {
		o.Failed = logFailed
	}
	timeout := cmp.Or(o.Timeout, time.Minute)
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{work: work}); err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:               map[string]river.QueueConfig{queueName: {MaxWorkers: cmp.Or(o.Workers, 16)}},
		Workers:              workers,
		MaxAttempts:          cmp.Or(o.Attempts, 16),
		RetryPolicy:          retryPolicy(o.Backoff),
		ErrorHandler:         errorHandler(o.Failed),
		JobTimeout:           timeout,
		RescueStuckJobsAfter: 2 * timeout,
		FetchCooldown:        fetch,

		CompletedJobRetentionPeriod: cmp.Or(o.Remember, 24*time.Hour),
		DiscardedJobRetentionPeriod: -1, // a dead letter was acknowledged: it stays until somebody has seen to it

		Logger: slog.Default(),
	})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return &Queue{pool: pool, client: client}, nil
}

// Start checks that the server keeps what it says it keeps, creates or updates
// River's tables, and begins to work. It fails if the server is away. The end
// of ctx does not stop the Queue: Shutdown does.
func (q *Queue) Start(ctx context.Context) error {
	if err := q.durable(ctx); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if err := q.migrate(ctx); err != nil {
		return fmt.Errorf("queue: migrating: %w", err)
	}
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// durable returns an error if a commit may be answered before it is on disk.
func (q *Queue) durable(ctx context.Context) error {
	rows, err := q.pool.Query(ctx, `SELECT name FROM pg_settings
		WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name`)
	if err != nil {
		return err
	}
	off, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(off) > 0 {
		return fmt.Errorf("%s is off: a crash of the server would lose deliveries that were acknowledged", strings.Join(off, ", "))
	}
	return nil
}

// migrate runs River's migrations, in one process at a time.
func (q *Queue) migrate(ctx context.Context) error {
	const lock = 0x686f6f6b // any number that nothing else of the database locks
	migrator, err := rivermigrate.New(riverpgxv5.New(q.pool), nil)
	if err != nil {
		return err
	}
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return errors.Join(err, conn.Conn().Close(ctx)) // which unlocks
	}
	_, err = conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", lock)
	return err
}

// Put stores d and returns nil once the server has committed it, or if it has
// it already: a retry of the sender is stored once. An error means that d may
// or may not be stored, so the sender must deliver it again; it comes when the
// server is away, has no space left or does not answer before ctx ends.
func (q *Queue) Put(ctx context.Context, d *middleware.Delivery) error {
	if d == nil {
		return errors.New("queue: Put of a nil Delivery")
	}
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	_, err := q.client.Insert(ctx, deliveryJob{ID: d.ID(), Delivery: d}, &river.InsertOpts{Queue: queueName, UniqueOpts: unique})
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Dead returns the number of dead letters: deliveries that were given up. They
// stay in the table, as jobs in the state discarded.
func (q *Queue) Dead(ctx context.Context) (int, error) {
	var n int
	err := q.pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE kind = $1 AND state = 'discarded'", jobKind).Scan(&n)
	return n, err
}

// Shutdown begins no more work and waits for what runs. If ctx ends first, it
// ends work's context: an attempt that heeds it and returns its error does not
// count, and is made again after the next Start, here or elsewhere. Work that
// goes on for 5 s all the same is left behind, and Shutdown returns an error.
// What waits in the table is not waited for.
//
// Stop the server and shut down the Guard before the Queue.
func (q *Queue) Shutdown(ctx context.Context) error {
	if q.client.Stop(ctx) == nil {
		return nil
	}
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardTime)
	defer cancel()
	if err := q.client.StopAndCancel(hard); err != nil {
		return fmt.Errorf("queue: work still runs, and is begun again elsewhere: %w", err)
	}
	return nil
}

type worker struct {
	river.WorkerDefaults[deliveryJob]
	work func(context.Context, *middleware.Delivery) error
}

var errPanicked = errors.New("work panicked; the log has the stack")

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[deliveryJob]) (err error) {
	defer func() {
		if recover() != nil { // River would keep the value, which may hold a part of the body
			slog.Error("work panicked", "id", job.Args.ID, "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	return w.work(ctx, job.Args.Delivery)
}

type retryPolicy func(attempt int) time.Duration

// NextRetry implements river.ClientRetryPolicy.
func (p retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	// A pause of nothing would lie in the past by the time that River looks.
	return time.Now().Add(max(p(job.Attempt), time.Millisecond))
}

// backoff is Backoff's default.
func backoff(attempt int) time.Duration {
	pause := time.Second
	for i := 1; i < attempt && pause < time.Hour; i++ {
		pause *= 2
	}
	pause = min(pause, time.Hour)
	return pause/2 + rand.N(pause/2+1)
}

type errorHandler func(*middleware.Delivery, error)

// HandleError implements river.ErrorHandler.
func (failed errorHandler) HandleError(_ context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	if job.Attempt < job.MaxAttempts {
		return nil
	}
	var args deliveryJob
	if jsonErr := json.Unmarshal(job.EncodedArgs, &args); jsonErr != nil || args.Delivery == nil {
		slog.Error("job given up that holds no delivery", "job", job.ID, "err", err)
		return nil
	}
	failed(args.Delivery, fmt.Errorf("attempt %d of %d failed: %w", job.Attempt, job.MaxAttempts, err))
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (failed errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, _ any, _ string) *river.ErrorHandlerResult {
	return failed.HandleError(ctx, job, errPanicked)
}

// logFailed is Failed's default.
func logFailed(d *middleware.Delivery, err error) {
	slog.Error("webhook delivery given up", "delivery", d, "id", d.ID(), "err", err)
}
