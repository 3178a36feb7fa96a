package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/hooktrust/hooktrust/middleware"
)

// prove sends every request to a receiver of its own, judges what came of
// them and prints it. The error says that something was judged wrongly or that
// there was nothing to judge.
func prove(ctx context.Context, out io.Writer, o options, senders []*sender, k keys, rc *receiver) error {
	cases, err := o.cases()
	if err != nil {
		return err
	}
	w := newWitness()
	app := w.watch(http.HandlerFunc(handle))
	mux := o.routes(rc, app, w.observe)
	others, err := newVectors(cases, mux, app, w.observe)
	if err != nil {
		return err
	}
	var played, replayed []*attempt
	err = serving(ctx, "127.0.0.1:0", mux, func(ctx context.Context, base string) error {
		fmt.Fprintf(out, "Four senders deliver to %s.\n\n", base)
		if played, err = play(ctx, base, senders, func() error { return rc.setKeys(k.currentOnly()) }); err != nil {
			return err
		}
		replayed, err = replay(ctx, base, others.requests, len(played))
		return err
	})
	if err != nil {
		return err
	}
	// Judged only now that the server is down: a handler that runs after its
	// answer, or twice, is seen too.
	w.judge(played)
	w.judge(replayed)

	printSenders(out, played)
	printVectors(out, replayed, others)
	fmt.Fprintf(out, "The Guards counted %s.\n\n", w.outcomes())
	wrong := wrongOnes(played) + wrongOnes(replayed)
	fmt.Fprintf(out, "%d deliveries of the four senders and %d of other implementations judged rightly, %d wrongly.\n",
		len(played)-wrongOnes(played), len(replayed)-wrongOnes(replayed), wrong)
	switch {
	case len(played) == 0 || len(replayed) == 0:
		return errors.New("no deliveries were judged") // which proves nothing
	case wrong > 0:
		return fmt.Errorf("judged wrongly: %d", wrong)
	}
	return nil
}

// attempt is a request that was sent and what came of it.
type attempt struct {
	*request
	id      int
	status  int   // of the answer; 0: there was none
	err     error // why there was none
	handler string
	fault   string // "": judged rightly
}

// play sends what the senders send, one request after the other, and ends the
// rotation of the keys on its way. The attempts are in the order of the senders.
func play(ctx context.Context, base string, senders []*sender, endRotation func() error) ([]*attempt, error) {
	c := newClient(base, 1)
	defer c.close()
	attempts := make([][]*attempt, len(senders))
	sent := 0
	send := func(i int, requests []*request, err error) error {
		if err != nil {
			return err
		}
		for _, r := range requests {
			a := &attempt{request: r, id: sent}
			sent++
			a.status, a.err = c.send(ctx, a.id, r)
			attempts[i] = append(attempts[i], a)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	}
	for i, s := range senders {
		requests, err := s.duringRotation()
		if err := send(i, requests, err); err != nil {
			return nil, err
		}
	}
	if err := endRotation(); err != nil {
		return nil, err
	}
	for i, s := range senders {
		requests, err := s.afterRotation()
		if err := send(i, requests, err); err != nil {
			return nil, err
		}
	}
	return slices.Concat(attempts...), nil
}

// replay sends requests, several at a time, with ids from firstID on.
func replay(ctx context.Context, base string, requests []*request, firstID int) ([]*attempt, error) {
	parallel := 2 * runtime.GOMAXPROCS(0)
	c := newClient(base, parallel)
	defer c.close()
	attempts := make([]*attempt, len(requests))
	work := make(chan *attempt)
	var wait sync.WaitGroup
	for range parallel {
		wait.Go(func() {
			for a := range work {
				a.status, a.err = c.send(ctx, a.id, a.request)
			}
		})
	}
	for i, r := range requests {
		if ctx.Err() != nil {
			break
		}
		attempts[i] = &attempt{request: r, id: firstID + i}
		work <- attempts[i]
	}
	close(work)
	wait.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return attempts, nil
}

// witness sees which requests reach the handler, and what the Guards report.
type witness struct {
	mu      sync.Mutex
	runs    map[string][]handled  // by the value of idHeader
	reports map[string][]reported // by the same
}

// handled is one run of the handler.
type handled struct {
	body     []byte               // what it could read
	delivery *middleware.Delivery // nil: no Guard has verified the request
}

// reported is what a Guard has told its Observe.
type reported struct {
	middleware.Result
	header http.Header // the request's, as it arrived
}

func newWitness() *witness {
	return &witness{runs: make(map[string][]handled), reports: make(map[string][]reported)}
}

// watch returns next with the witness before it.
func (w *witness) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = nil // and that is what the handler would see
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		delivery, _ := middleware.FromContext(r.Context())
		id := r.Header.Get(idHeader)
		w.mu.Lock()
		w.runs[id] = append(w.runs[id], handled{body, delivery})
		w.mu.Unlock()
		next.ServeHTTP(rw, r)
	})
}

// observe is a Guard's Observe.
func (w *witness) observe(r *http.Request, res middleware.Result) {
	id := r.Header.Get(idHeader)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports[id] = append(w.reports[id], reported{res, r.Header.Clone()})
}

// judge compares what came of the attempts with what was wanted.
func (w *witness) judge(attempts []*attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range attempts {
		id := strconv.Itoa(a.id)
		a.handler, a.fault = a.judge(w.runs[id], w.reports[id])
	}
}

func (a *attempt) judge(runs []handled, reports []reported) (handler, fault string) {
	var faults []string
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if a.err != nil {
		wrong("no answer: %v", a.err)
	} else if a.status != a.want.status {
		wrong("must be answered %d", a.want.status)
	}

	handler = "did not run"
	switch {
	case len(runs) == 0 && a.want.ran:
		wrong("the handler must run")
	case len(runs) > 0 && !a.want.ran:
		handler = "ran"
		wrong("the handler must not run")
	case len(runs) > 1:
		handler = fmt.Sprintf("ran %d times", len(runs))
		wrong("the handler must run once")
	case len(runs) == 1:
		handler = "ran"
		d := runs[0].delivery
		if d == nil {
			wrong("the handler got no Delivery")
			break
		}
		handler = fmt.Sprintf("ran, key %d", d.Key)
		if !bytes.Equal(runs[0].body, a.body) || !bytes.Equal(d.Body, a.body) {
			wrong("the handler must get the bytes that were sent")
		}
		if d.Key != a.want.key {
			wrong("must match key %d", a.want.key)
		}
	}

	if len(reports) != 1 {
		wrong("a Guard must report it once, not %d times", len(reports))
		return handler, strings.Join(faults, "; ")
	}
	report := reports[0]
	if report.Status != a.status {
		wrong("the Guard reports the answer %d", report.Status)
	}
	if a.want.err != nil && !errors.Is(report.Err, a.want.err) {
		wrong("must be refused as %q, not %q", a.want.err, report.Err)
	}
	for name, values := range a.header {
		if !slices.Equal(report.header.Values(name), values) {
			wrong("%s must arrive as it was sent", name)
		}
	}
	return handler, strings.Join(faults, "; ")
}

// outcomes returns how often the Guards reported which outcome.
func (w *witness) outcomes() string {
	counts := make(map[middleware.Outcome]int)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, reports := range w.reports {
		for _, report := range reports {
			counts[report.Outcome]++
		}
	}
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[outcome], outcome))
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}

func wrongOnes(attempts []*attempt) int {
	n := 0
	for _, a := range attempts {
		if a.fault != "" {
			n++
		}
	}
	return n
}

func printSenders(out io.Writer, attempts []*attempt) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sender\tdelivery\tanswer\thandler\tverdict")
	last := ""
	for _, a := range attempts {
		group := a.group
		if group == last {
			group = "" // once is enough
		}
		last = a.group
		status := "none"
		if a.status != 0 {
			status = strconv.Itoa(a.status)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", group, a.what, status, a.handler, mark(a.fault))
	}
	table.Flush()
	fmt.Fprintln(out)
}

func mark(fault string) string {
	if fault == "" {
		return "✓"
	}
	return "✗ " + fault
}

// maxFaults is how many faults are printed one by one.
const maxFaults = 10

// printVectors prints one row for each group of attempts.
func printVectors(out io.Writer, attempts []*attempt, v *vectors) {
	fmt.Fprintf(out, "Other implementations' deliveries: %d, of which %d are sent.\n\n", v.total(), len(attempts))
	type sum struct{ all, wrong int }
	sums := make(map[string]*sum)
	verb := make(map[string]string)
	var faults []string
	for _, a := range attempts {
		s := sums[a.group]
		if s == nil {
			s = new(sum)
			sums[a.group] = s
		}
		verb[a.group] = "refused"
		if a.want.ran {
			verb[a.group] = "accepted"
		}
		s.all++
		if a.fault != "" {
			s.wrong++
			faults = append(faults, a.what+": "+a.fault)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "signed by\twith\tdeliveries\tanswer\tverdict")
	for _, group := range slices.Sorted(maps.Keys(sums)) {
		s := sums[group]
		fault := ""
		if s.wrong > 0 {
			fault = fmt.Sprintf("%d wrong", s.wrong)
		}
		fmt.Fprintf(table, "%s\t%d/%d %s\t%s\n", group, s.all-s.wrong, s.all, verb[group], mark(fault))
	}
	table.Flush()
	fmt.Fprintln(out)
	for _, fault := range faults[:min(len(faults), maxFaults)] {
		fmt.Fprintln(out, "✗", fault)
	}
	if more := len(faults) - maxFaults; more > 0 {
		fmt.Fprintf(out, "✗ and %d more\n", more)
	}
	for _, why := range slices.Sorted(maps.Keys(v.unsent)) {
		fmt.Fprintf(out, "%d are not sent: %s.\n", v.unsent[why], why)
	}
}
