package middleware

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// clock is what a Guard has that belongs to a clock: there is the real one,
// and that of a bubble of testing/synctest, whose timers and channels end the
// process when anybody outside of the bubble touches them.
type clock struct {
	base   context.Context // of handlers with a deadline
	cancel context.CancelCauseFunc
	alarms alarms
}

func newClock() *clock {
	k := new(clock)
	k.base, k.cancel = context.WithCancelCause(context.Background())
	return k
}

// isReal reports whether now, which time.Now has told, is the real time. In a
// bubble it has no monotonic reading, which Round(0) removes from all other.
func isReal(now time.Time) bool { return now.Round(0) != now }

// alarms ring for runs when their answers are due. They share one timer, which
// is set for the first of them and not touched when a run is done before: it
// rings, finds nobody due, and is set anew. A timer for each run would cost
// more than the rest of what a deadline adds.
type alarms struct {
	mu    sync.Mutex
	runs  dueRuns
	timer *time.Timer
	rings time.Time // when timer does; zero if it is not set
}

// add makes c.late run when c's answer is due, unless c is removed before.
func (a *alarms) add(c *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	heap.Push(&a.runs, c)
	a.set()
}

// remove keeps c.late from running, if it does not run already.
func (a *alarms) remove(c *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.place > 0 {
		heap.Remove(&a.runs, c.place-1)
	}
}

// ring is called when the timer rings.
func (a *alarms) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rings = time.Time{}
	now := time.Now()
	for len(a.runs) > 0 && !a.runs[0].answerBy.After(now) {
		c := heap.Pop(&a.runs).(*run)
		go c.late() // which waits for the client, and for Guard.Late
	}
	a.set()
}

// set sees to it that the timer rings no later than the first run is due.
func (a *alarms) set() {
	if len(a.runs) == 0 {
		return
	}
	due := a.runs[0].answerBy
	if !a.rings.IsZero() && !a.rings.After(due) {
		return
	}
	a.rings = due
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(due), a.ring)
	} else {
		a.timer.Reset(time.Until(due))
	}
}

// dueRuns is a heap of runs, that which is due first on top.
type dueRuns []*run

func (r dueRuns) Len() int           { return len(r) }
func (r dueRuns) Less(i, j int) bool { return r[i].answerBy.Before(r[j].answerBy) }

func (r dueRuns) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].place, r[j].place = i+1, j+1
}

func (r *dueRuns) Push(c any) {
	*r = append(*r, c.(*run))
	c.(*run).place = len(*r)
}

func (r *dueRuns) Pop() any {
	last := len(*r) - 1
	c := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	c.place = 0
	return c
}
