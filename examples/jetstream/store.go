package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hooktrust/hooktrust/middleware"
)

// StoreOptions says what a Store remembers, and for how long. Zero values mean
// the defaults named. All receivers that share a bucket should say the same.
type StoreOptions struct {
	Bucket   string        // "" means HOOKS_SEEN
	Replicas int           // as QueueOptions.Replicas
	Lease    time.Duration // a claim that is not settled ends after it; in whole seconds; 0 means 1 min
	Window   time.Duration // a settled delivery is remembered for it; see Window; 0 means 2 min
	MaxBytes int64         // of the bucket; Claim fails beyond it; 0 means 1 GiB
	Timeout  time.Duration // for one request; 0 means 1 s
}

// What a key holds. A key that is not there is Fresh.
var (
	running = []byte("running")
	done    = []byte("done")
)

// markerTime is how long the bucket keeps a mark where a key has ended.
const markerTime = time.Second

// Store is a middleware.Store in a JetStream key-value bucket, so that several
// receivers share what they have seen. A claim is a lease: the server removes
// it after StoreOptions.Lease, by the server's clock alone. The lease must be
// longer than a handler ever runs, or a retry runs beside it.
//
// It needs nats-server 2.11 or newer, which can end single keys. Each delivery
// costs two writes, and one more when it is forgotten.
type Store struct {
	kv      jetstream.KeyValue
	lease   time.Duration
	timeout time.Duration

	mu     sync.Mutex
	claims map[string]uint64 // revisions of this process's claims that are not settled
}

// NewStore makes the bucket, or changes its limits if it exists.
func NewStore(ctx context.Context, js jetstream.JetStream, o StoreOptions) (*Store, error) {
	if o.Bucket == "" {
		o.Bucket = "HOOKS_SEEN"
	}
	lease := or(o.Lease, time.Minute)
	lease = (lease + time.Second - 1).Truncate(time.Second)
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         o.Bucket,
		TTL:            max(or(o.Window, 2*time.Minute), lease),
		LimitMarkerTTL: markerTime, // allows keys to end before the bucket's TTL
		MaxBytes:       or(o.MaxBytes, 1<<30),
		Storage:        jetstream.FileStorage,
		Replicas:       or(o.Replicas, 1),
	})
	if err != nil {
		return nil, fmt.Errorf("store: bucket %s: %w", o.Bucket, err)
	}
	return &Store{kv: kv, lease: lease, timeout: or(o.Timeout, time.Second), claims: make(map[string]uint64)}, nil
}

// Claim implements middleware.Store. Create writes only if there is no such
// key, so that one of any number of Claims gets Fresh.
func (s *Store) Claim(ctx context.Context, id string) (middleware.State, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	revision, err := s.kv.Create(ctx, id, running, jetstream.KeyTTL(s.lease))
	if err == nil {
		s.mu.Lock()
		s.claims[id] = revision
		s.mu.Unlock()
		return middleware.Fresh, nil
	}
	if !conflict(err) {
		return 0, fmt.Errorf("store: Claim: %w", err)
	}
	entry, err := s.kv.Get(ctx, id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound): // it has just ended, or the server asked is behind
		return middleware.Running, nil
	case err != nil:
		return 0, fmt.Errorf("store: Claim: %w", err)
	case string(entry.Value()) == string(done):
		return middleware.Done, nil
	}
	return middleware.Running, nil
}

// Settle implements middleware.Store.
func (s *Store) Settle(ctx context.Context, id string, isDone bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.mu.Lock()
	revision, mine := s.claims[id]
	delete(s.claims, id)
	s.mu.Unlock()

	var err error
	if mine {
		if err = s.settle(ctx, id, isDone, revision); err == nil {
			return nil
		}
		if !isDone && conflict(err) { // the lease is over; whatever is there now is not ours
			return nil
		}
	}
	// The claim is another process's, or has ended by itself. Others may settle
	// it at the same time.
	for tries := 0; tries < 5 && (err == nil || conflict(err)); tries++ {
		var entry jetstream.KeyValueEntry
		entry, err = s.kv.Get(ctx, id)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound) && mine: // what is done is kept all the same
			_, err = s.kv.Create(ctx, id, done)
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return nil
		case err == nil && string(entry.Value()) == string(done):
			return nil
		case err == nil:
			err = s.settle(ctx, id, isDone, entry.Revision())
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("store: Settle: %w", err)
}

// settle ends the claim that was written as revision, and no other.
func (s *Store) settle(ctx context.Context, id string, isDone bool, revision uint64) error {
	if isDone {
		_, err := s.kv.Update(ctx, id, done, revision) // has no TTL of its own, so it lives as long as the bucket's
		return err
	}
	return s.kv.Purge(ctx, id, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerTime))
}

// conflict reports whether err says that the key is not as it was expected.
func conflict(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return true
	}
	// Create over the mark of an ended key does not translate the code that a
	// stream of several replicas has for it.
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}
