package middleware

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

// Store remembers deliveries, so that a retry of one does not run the handler
// twice. A Guard asks it only about deliveries that have been verified. One
// Store may serve several Guards. [MemoryStore] is one for a single process;
// several receivers that answer for one URL need one that they share, and
// behind its methods a database or a cache.
//
// An id is what Delivery.ID returns: 64 lower-case hex digits. For each id a
// Store keeps one of three states:
//
//	Fresh    not known; the state of every id at first
//	Running  claimed and not settled
//	Done     settled with done true, within the Store's window
//
// Both methods must be safe for concurrent use, from several processes if the
// Store is shared. The sender waits while Claim runs: it must heed ctx and
// should take milliseconds.
//
// An error means that the Store does not know, and never that the delivery is
// bad. The Guard then runs the handler, because a delivery that runs twice is
// better than one that is lost. Errors must hold no body.
type Store interface {
	// Claim returns the state that id has, and makes it Running if it is
	// Fresh, in one atomic step: of any number of Claims at one time exactly
	// one gets Fresh. That caller must run the handler and then call Settle.
	// The others must not run it. If err is not nil the State means nothing,
	// and a Settle may follow or not.
	//
	// A receiver that crashes settles nothing. So in a Store that outlives
	// it, a claim must end by itself, after longer than a handler ever runs:
	// while the claim lasts the sender's retries are refused, and if it ends
	// too early the handler runs twice.
	Claim(ctx context.Context, id string) (State, error)

	// Settle ends the claim of id. With done true it makes id Done, and keeps
	// it so for the window, which should be longer than the sender goes on
	// trying. With done false it forgets id, so that the next Claim returns
	// Fresh and a retry runs again.
	//
	// Settle is harmless for an id that is not Running: it changes nothing
	// and is no error. (Only where a claim has ended by itself, a Store
	// should keep done true all the same.)
	Settle(ctx context.Context, id string, done bool) error
}

// State is what a Store knows of a delivery.
type State int

const (
	Fresh   State = iota // not known: the caller has claimed it, and runs it, then settles
	Running              // claimed by another, who has not settled it
	Done                 // settled as done, within the window
)

var states = [...]string{Fresh: "fresh", Running: "running", Done: "done"}

// String returns the state in lower case: "fresh", "running" or "done".
func (s State) String() string {
	if s < 0 || int(s) >= len(states) {
		return "unknown"
	}
	return states[s]
}

// defaultMaxEntries is how many a MemoryStore holds if it is told nothing.
const defaultMaxEntries = 100_000

// MemoryStore is a Store in the memory of this process. A restart forgets
// everything, so a retry that comes after it runs the handler again. Make one
// with NewMemoryStore. Its methods may be called concurrently; they never wait,
// never return an error and do not use their context.
//
// An entry costs less than 200 bytes. There is no goroutine: the next Claim
// removes the entries whose window is over. A call takes constant time on
// average; one that has many entries to remove takes longer.
type MemoryStore struct {
	window time.Duration
	max    int
	start  time.Time // what times are counted from

	mu      sync.Mutex
	entries map[storeKey]bool // whether it is done
	settled []settledKey      // those that are, the oldest first
	deleted int               // from entries since that was made
}

type storeKey [sha256.Size]byte

type settledKey struct {
	key storeKey
	at  time.Duration // since MemoryStore.start
}

// NewMemoryStore returns a MemoryStore that forgets a delivery when window has
// passed since it was settled as done. If window is 0 or less that is at once,
// and only copies that arrive while the handler runs are recognised.
//
// It holds at most max entries, of which the oldest settled ones are forgotten
// first; 0 or less means 100,000. One that is running is never forgotten, so
// while more than max are running at one time, max is exceeded by these: as
// many as the server runs handlers.
func NewMemoryStore(window time.Duration, max int) *MemoryStore {
	if max <= 0 {
		max = defaultMaxEntries
	}
	return &MemoryStore{
		window:  window,
		max:     max,
		start:   time.Now(),
		entries: make(map[storeKey]bool),
	}
}

// Claim implements Store. It accepts any string as an id.
func (s *MemoryStore) Claim(_ context.Context, id string) (State, error) {
	key := keyOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if done, ok := s.entries[key]; ok {
		if done {
			return Done, nil
		}
		return Running, nil
	}
	s.entries[key] = false
	s.shrink()
	return Fresh, nil
}

// Settle implements Store. It changes nothing for an id that is not running.
func (s *MemoryStore) Settle(_ context.Context, id string, done bool) error {
	key := keyOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if wasDone, ok := s.entries[key]; !ok || wasDone {
		return nil
	}
	if !done {
		s.forget(key)
		return nil
	}
	s.entries[key] = true
	s.settled = append(s.settled, settledKey{key, time.Since(s.start)})
	s.shrink()
	return nil
}

// expire forgets what was settled a window ago. s.mu is held.
func (s *MemoryStore) expire() {
	now := time.Since(s.start)
	for len(s.settled) > 0 && now-s.settled[0].at >= s.window {
		s.forgetOldest()
	}
}

// shrink forgets what is beyond max, as far as it is settled. s.mu is held.
func (s *MemoryStore) shrink() {
	for len(s.entries) > s.max && len(s.settled) > 0 {
		s.forgetOldest()
	}
}

func (s *MemoryStore) forgetOldest() {
	s.forget(s.settled[0].key)
	s.settled = s.settled[1:]
	if len(s.settled) == 0 {
		s.settled = nil
	}
}

// forget deletes an entry. A map never gives back what it has taken, and grows
// further while old entries make way for new ones, so it is made anew when
// more has been deleted than a copy costs.
func (s *MemoryStore) forget(key storeKey) {
	delete(s.entries, key)
	s.deleted++
	if s.deleted > 2*len(s.entries)+1000 {
		fresh := make(map[storeKey]bool, len(s.entries))
		maps.Copy(fresh, s.entries)
		s.entries, s.deleted = fresh, 0
	}
}

// keyOf returns the bytes that id's hex digits stand for, and a hash of any
// other id.
func keyOf(id string) storeKey {
	var key storeKey
	if len(id) != 2*len(key) {
		return hashedKey(id)
	}
	for i := range key {
		high, low := hexDigit(id[2*i]), hexDigit(id[2*i+1])
		if high|low > 15 {
			return hashedKey(id)
		}
		key[i] = high<<4 | low
	}
	return key
}

// hashedKey hashes id with a prefix, so that the SHA-256 of an id is an id of
// its own.
func hashedKey(id string) storeKey {
	return sha256.Sum256(append([]byte("middleware.MemoryStore\x00"), id...))
}

// hexDigit returns 0xff for what is not a lower-case hex digit: other digits
// would make two ids one.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
