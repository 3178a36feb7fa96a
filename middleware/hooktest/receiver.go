package hooktest

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"log"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// defaultBody is delivered if TestReceiver is given none.
const defaultBody = `{"event":"hooktest","text":"a delivery to test the receiver with"}`

const (
	// burst is how many deliveries come at once.
	burst = 20

	// oversized is the size of a body that no receiver should read to its end.
	oversized = 32 << 20

	// promptly is how long a receiver may take to refuse a body that it need
	// not read.
	promptly = 2 * time.Second

	// afterthought is how long after a retry a broken promise not to work on
	// it is waited for.
	afterthought = 100 * time.Millisecond

	// trickle is how often a byte of a trickling body comes.
	trickle = 100 * time.Millisecond

	// trickleMargin is how long after the deadline a trickling body may be
	// cut off: the clocks start apart, and machines that run tests are busy.
	trickleMargin = time.Second
)

// TestReceiver tests that h is a good receiver for what s delivers. It serves
// h on a loopback address and runs a subtest for each obligation, all of them
// whatever fails. A failure says what h did, why that matters and what to
// change. The path of the requests is "/", so h should be the receiver itself
// and not a mux that serves it under another path.
//
// bodies are what the sender would deliver; h must accept each with a 2xx
// within s.Contract.Deadline (10 s if that is 0). If there are none, a small
// JSON object is delivered. Most other obligations are tested with the first
// of them. They are:
//
//   - genuine/0, genuine/1, …: accepted in time, one effect each
//   - tampered body, re-encoded body, header missing, header empty, header
//     malformed, header truncated, header duplicated, header comma-joined,
//     signature of another body, signature altered, another key: refused with
//     a 4xx, without an effect; the last one needs s.Stranger
//   - same answer for every refusal: status, header and body do not tell which
//     check failed; what differs from request to request anyway is left out of
//     the header
//   - probes: the contract's, unsigned, are answered 200, without an effect
//   - other methods: GET, PUT, PATCH and DELETE get no 2xx, signed or not
//   - retry: accepted again, or 503 for the deadline at most and then accepted;
//     no second effect if s.Once
//   - concurrent retries, burst: all answered in time, with a 2xx or a 503
//   - oversized body: refused before 32 MiB have been read
//   - oversized Content-Length: one of 1 TiB is refused without waiting for the
//     body
//   - trickling body: cut off by the deadline; skipped under -short
//   - answer size, forbidden status: within the contract, for every answer
//
// Effects are seen through s.Effects; without it only answers are tested.
//
// Unless h is slow, all but trickling body take a second or two, and that one
// takes the deadline. To run several at once, call t.Parallel before it. Not
// tested are keys that the sender no longer uses, replays, and the settings of
// the real server.
func TestReceiver(t *testing.T, h http.Handler, s *Sender, bodies ...[]byte) {
	t.Helper()
	if h == nil {
		t.Fatal("hooktest: TestReceiver of a nil handler")
	}
	if err := s.ready(); err != nil {
		t.Fatal(err)
	}
	if len(bodies) == 0 {
		bodies = [][]byte{[]byte(defaultBody)}
	}
	logs := &testLog{t: t}
	defer logs.close()
	target, err := serve(h, s, bodies, log.New(logs, "the receiver's server: ", 0))
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	for _, o := range obligations(len(bodies)) {
		t.Run(o.name, func(t *testing.T) {
			if o.slow && testing.Short() {
				t.Skipf("it takes %v: not run with -short", target.deadline)
			}
			switch err := o.check(target); {
			case errors.Is(err, errNothing):
				t.Skip(err)
			case err != nil:
				t.Errorf("%v\n\nwhy it matters: %s\nwhat to change: %s", err, o.why, o.change)
			}
		})
	}
}

// testLog writes to a test's log until it is closed: a test must not log after
// its end, and a server may. It writes a few messages and leaves out the rest,
// since a receiver that panics does so for many requests.
type testLog struct {
	mu sync.Mutex
	t  *testing.T
	n  int
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 3
	switch l.n++; {
	case l.t == nil || l.n > most:
	case l.n == most:
		l.t.Logf("%s\n(more is left out)", bytes.TrimRight(p, "\n"))
	default:
		l.t.Logf("%s", bytes.TrimRight(p, "\n"))
	}
	return len(p), nil
}

func (l *testLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}

// obligation is what a receiver owes, and a check that tells how it fails to.
// Checks that see effects are made before those that leave some running.
type obligation struct {
	name   string
	check  func(*target) error
	slow   bool   // it takes as long as the deadline
	why    string // it matters
	change string // in a receiver that fails
}

// errNothing: the obligation does not apply.
var errNothing = errors.New("nothing to test")

// obligations returns all of them, for a number of bodies.
func obligations(bodies int) []obligation {
	var all []obligation
	for i := range bodies {
		all = append(all, obligation{
			name:   fmt.Sprintf("genuine/%d", i),
			check:  func(t *target) error { return t.acceptsGenuine(i) },
			why:    "The sender counts anything but a 2xx in time as failed: it retries, gives up, and may switch the webhook off.",
			change: "Verify the bytes as they came, with this sender's key, header and encoding; answer 2xx, and do what takes long after the answer. If the answer is a 404, pass the receiver itself and not the mux around it.",
		})
	}
	for i, f := range forgeries {
		o := f.obligation
		o.check = func(t *target) error { return t.refuses(i) }
		all = append(all, o)
	}
	return append(all,
		obligation{
			name:   "same answer for every refusal",
			check:  (*target).refusesAlike,
			why:    "An answer that tells which check failed helps an attacker to pass it, one check after the other.",
			change: "Answer every failure of the signature with one constant status, header and body, and write the reason to your log.",
		},
		obligation{
			name:   "probes",
			check:  (*target).answersProbes,
			why:    "The sender probes the URL without a signature, and does not accept the URL unless the answer is 200.",
			change: "Answer the contract's Probe methods with 200 before anything is verified, and do nothing else for them.",
		},
		obligation{
			name:   "other methods",
			check:  (*target).refusesMethods,
			why:    "The sender delivers with POST only. Other methods are treated differently by browsers, caches and proxies, and may reach you without their body.",
			change: "Answer every method but POST, and the contract's probes, with 405.",
		},
		obligation{
			name:   "retry",
			check:  (*target).acceptsRetry,
			why:    "The sender delivers again when it has not seen your answer. A retry that is refused looks like a failure to it, and one that is worked on twice may do harm.",
			change: "Answer a delivery that you have already worked on with a 2xx, and one that you are working on with 503.",
		},
		obligation{
			name:   "concurrent retries",
			check:  (*target).acceptsConcurrentRetries,
			why:    "A retry may come while you are still working on the delivery before it.",
			change: "Claim a delivery before you work on it, and answer 2xx when it is done or 503 while it runs, in time.",
		},
		obligation{
			name:   "burst",
			check:  (*target).bearsBurst,
			why:    "Senders deliver several events in a short time, and each answer is due within the deadline.",
			change: "Work on deliveries at the same time or after the answer, and answer 503 at once when there are too many.",
		},
		obligation{
			name:   "oversized body",
			check:  (*target).refusesOversized,
			why:    "Anybody can send you a body without end before its signature can be checked; reading it costs memory and time.",
			change: "Limit the body: http.MaxBytesReader, or Guard.MaxBody; answer 413 beyond it.",
		},
		obligation{
			name:   "oversized Content-Length",
			check:  (*target).refusesContentLength,
			why:    "A body that says it is too large need not be waited for.",
			change: "Compare the request's ContentLength with your limit before you read, and answer 413.",
		},
		obligation{
			name:   "trickling body",
			check:  (*target).cutsTrickle,
			slow:   true,
			why:    "net/http waits for a body for ever. A few thousand connections that send a byte now and then take all that your process has.",
			change: "Set a read deadline before you read the body: http.ResponseController.SetReadDeadline, or the server's ReadTimeout; this test sees the latter only if Sender.Server sets it.",
		},
		obligation{
			name:   "answer size",
			check:  (*target).answersBriefly,
			why:    "The sender drops an answer that is larger than its contract allows.",
			change: "Keep answers, those to failures among them, within the contract's MaxResponse.",
		},
		obligation{
			name:   "forbidden status",
			check:  (*target).avoidsForbidden,
			why:    "The sender switches the webhook off when it sees this status, and then nothing arrives any more.",
			change: "Never let the contract's Forbidden statuses out, whatever the handler answers; a 500 stands for them.",
		},
	)
}

// faults joins what was found, the first few of it.
func faults(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	const most = 6
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return errors.Join(errs...)
}

func (t *target) acceptsGenuine(i int) error {
	before := t.effects()
	o, err := t.genuine(i)
	if err != nil {
		return err
	}
	r := t.send(o)
	if !r.accepted() {
		return fmt.Errorf("%s: the receiver %v; expected a 2xx within %v", o.what, r, t.deadline)
	}
	if n := t.effectsSettled(before+1) - before; t.sender.Effects != nil && n != 1 {
		return fmt.Errorf("%s: the receiver %v and worked on it %d times; expected once", o.what, r, n)
	}
	return nil
}

// forged returns the forgeries of a kind, by its index.
func (t *target) forged(kind int) ([]order, error) {
	f := forgeries[kind]
	bodies := t.bodies[:1]
	if f.all {
		bodies = t.bodies
	}
	var orders []order
	for _, body := range bodies {
		signature, err := value(t.sender.Sign, body)
		if err != nil {
			return nil, err
		}
		more, err := f.make(t.sender, body, signature)
		if err != nil {
			return nil, err
		}
		orders = append(orders, more...)
	}
	return orders, nil
}

func (t *target) refuses(kind int) error {
	orders, err := t.forged(kind)
	if err != nil {
		return err
	}
	if len(orders) == 0 {
		return fmt.Errorf("%w: %s needs Sender.Stranger, or signatures without commas", errNothing, forgeries[kind].name)
	}
	return t.without(orders, "a 4xx", reply.refused)
}

// without makes the requests one after the other and returns an error for each
// answer that is not as expected, and for each effect.
func (t *target) without(orders []order, expected string, good func(reply) bool) error {
	var errs []error
	before := t.effects()
	for _, o := range orders {
		r := t.send(o)
		now := t.effects()
		switch {
		case now != before:
			errs = append(errs, fmt.Errorf("%s: the receiver %v and worked on it; expected %s and no effect", o.what, r, expected))
		case !good(r):
			errs = append(errs, fmt.Errorf("%s: the receiver %v; expected %s", o.what, r, expected))
		}
		before = now
		if r.late() {
			break // so will the others be
		}
	}
	if now := t.effectsSettled(0); now != before {
		errs = append(errs, fmt.Errorf("after its answers the receiver worked on %d of these; expected no effect", now-before))
	}
	return faults(errs)
}

func (t *target) refusesAlike() error {
	defer t.effectsSettled(0)
	var refusals []reply
	for kind := range forgeries {
		orders, err := t.forged(kind)
		if err != nil {
			return err
		}
		for _, o := range orders {
			r := t.send(o)
			if r.late() {
				break
			}
			if r.refused() { // else it is another obligation's fault
				refusals = append(refusals, r)
			}
		}
	}
	if len(refusals) == 0 {
		return fmt.Errorf("%w: the receiver refused nothing", errNothing)
	}
	first := refusals[0]
	noise := differing(first.header, t.send(first.order).header)
	noise = append(noise, "Date", "Connection", "Keep-Alive")
	var errs []error
	for _, r := range refusals[1:] {
		if how := difference(first, r, noise); how != "" {
			errs = append(errs, fmt.Errorf("%s is answered differently from %s: %s; expected one answer for both", r.what, first.what, how))
		}
	}
	return faults(errs)
}

// differing returns the names of the fields that are not the same in both.
func differing(a, b http.Header) []string {
	var names []string
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// difference says how two answers differ, or nothing.
func difference(a, b reply, noise []string) string {
	if a.status != b.status {
		return fmt.Sprintf("%s and not %s", statusLine(b.status), statusLine(a.status))
	}
	if !bytes.Equal(a.answer.body, b.answer.body) || a.size != b.size {
		return fmt.Sprintf("body %s and not %s", quote(b.answer.body), quote(a.answer.body))
	}
	for _, name := range differing(a.header, b.header) {
		if !slices.Contains(noise, name) {
			return fmt.Sprintf("%s %q and not %q", name, b.header[name], a.header[name])
		}
	}
	return ""
}

func quote(body []byte) string {
	if len(body) > 80 {
		return fmt.Sprintf("%q…", body[:80])
	}
	return fmt.Sprintf("%q", body)
}

func (t *target) answersProbes() error {
	if len(t.sender.Contract.Probe) == 0 {
		return fmt.Errorf("%w: the contract has no Probe", errNothing)
	}
	var orders []order
	for _, method := range t.sender.Contract.Probe {
		orders = append(orders, order{what: "an unsigned " + method, method: method})
	}
	return t.without(orders, "200", func(r reply) bool { return r.err == nil && r.status == http.StatusOK })
}

func (t *target) refusesMethods() error {
	signed, err := t.genuine(0)
	if err != nil {
		return err
	}
	var orders []order
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if slices.Contains(t.sender.Contract.Probe, method) {
			continue
		}
		orders = append(orders,
			order{what: "an unsigned " + method, method: method},
			order{what: "a genuinely signed " + method, method: method, body: signed.body, values: signed.values},
		)
	}
	return t.without(orders, "405", func(r reply) bool { return r.err == nil && !r.ok() })
}

// persist delivers body i until the answer is no longer 503, as long as the
// deadline.
func (t *target) persist(i int) (reply, error) {
	o, err := t.genuine(i)
	if err != nil {
		return reply{}, err
	}
	for end := time.Now().Add(t.deadline); ; time.Sleep(20 * time.Millisecond) {
		r := t.send(o)
		if r.status != http.StatusServiceUnavailable || r.err != nil || time.Now().After(end) {
			return r, nil
		}
	}
}

func (t *target) acceptsRetry() error {
	before := t.effects()
	for _, what := range []string{"", "the retry of "} {
		r, err := t.persist(0)
		if err != nil {
			return err
		}
		if !r.accepted() {
			return fmt.Errorf("%s%s: the receiver %v; expected a 2xx, or 503 for a while and then a 2xx", what, r.what, r)
		}
	}
	return t.workedOnce(before)
}

func (t *target) acceptsConcurrentRetries() error {
	const copies = 8
	before := t.effects()
	r, err := t.persist(0)
	if err != nil {
		return err
	}
	if !r.accepted() {
		return fmt.Errorf("%s: the receiver %v; expected a 2xx", r.what, r)
	}
	o, err := t.genuine(0)
	if err != nil {
		return err
	}
	errs := t.atOnce(slices.Repeat([]order{o}, copies))
	if r, err = t.persist(0); err != nil {
		return err
	}
	if !r.accepted() {
		errs = append(errs, fmt.Errorf("%s, after %d of it at once: the receiver %v; expected a 2xx", r.what, copies, r))
	}
	return faults(append(errs, t.workedOnce(before)))
}

// workedOnce returns an error if the receiver promised to work on deliveries of
// the same body once, and there are more effects than one since there were
// before.
func (t *target) workedOnce(before int) error {
	if !t.sender.Once {
		return nil
	}
	time.Sleep(afterthought)
	if n := t.effectsSettled(0) - before; n > 1 {
		return fmt.Errorf("a genuine delivery and its retries: the receiver worked on them %d times; expected once at most, as Sender.Once promises", n)
	}
	return nil
}

func (t *target) bearsBurst() error {
	var orders []order
	for i := range burst {
		o, err := t.genuine(i % len(t.bodies))
		if err != nil {
			return err
		}
		orders = append(orders, o)
	}
	return faults(t.atOnce(orders))
}

// atOnce makes the requests at once. Each must be answered with a 2xx or a
// 503, and not all with a 503.
func (t *target) atOnce(orders []order) []error {
	var errs []error
	accepted, busy := 0, 0
	for _, r := range t.sendAll(orders) {
		switch {
		case r.accepted():
			accepted++
		case r.err == nil && r.status == http.StatusServiceUnavailable:
			busy++
		default:
			errs = append(errs, fmt.Errorf("%s, one of %d deliveries at once: the receiver %v; expected a 2xx or a 503 within %v", r.what, len(orders), r, t.deadline))
		}
	}
	if accepted == 0 && busy > 0 {
		errs = append(errs, fmt.Errorf("%d deliveries at once: the receiver answered 503 to each that it answered; expected a 2xx for one at least", len(orders)))
	}
	return errs
}

func (t *target) refusesOversized() error {
	const size = 32 << 10
	chunk := append(fmt.Appendf(nil, "%x\r\n", size), bytes.Repeat([]byte{' '}, size)...)
	chunk = append(chunk, "\r\n"...)
	f, err := t.feed("Transfer-Encoding: chunked", t.deadline+trickleMargin, func(yield func([]byte) bool) {
		for range oversized / size {
			if !yield(chunk) {
				return
			}
		}
		yield([]byte("0\r\n\r\n"))
	})
	switch {
	case err != nil:
		return err
	case f.sent >= oversized:
		return fmt.Errorf("a chunked body of %d MiB: the receiver read all of it before it %v; expected a 413 long before", oversized>>20, f)
	case !f.ended:
		return fmt.Errorf("a chunked body of %d MiB: the receiver stopped reading after %d bytes at most and %v; expected a 413", oversized>>20, f.sent, f)
	case f.ok():
		return fmt.Errorf("a chunked body of %d MiB: the receiver %v; expected a 413", oversized>>20, f)
	}
	return nil
}

func (t *target) refusesContentLength() error {
	limit := min(promptly, t.deadline/2)
	f, err := t.feed("Content-Length: 1099511627776", limit, func(yield func([]byte) bool) {
		yield([]byte("{"))
	})
	switch {
	case err != nil:
		return err
	case !f.ended:
		return fmt.Errorf("a Content-Length of 1 TiB and one byte of body: the receiver %v; expected a 413 at once", f)
	case f.ok():
		return fmt.Errorf("a Content-Length of 1 TiB and one byte of body: the receiver %v; expected a 413", f)
	}
	return nil
}

// drip returns a piece now and then, for as long as limit.
func drip(piece string, limit time.Duration) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		end := time.Now().Add(limit)
		for time.Now().Before(end) && yield([]byte(piece)) {
			time.Sleep(trickle)
		}
	}
}

func (t *target) cutsTrickle() error {
	limit := t.deadline + trickleMargin
	framings := []struct{ header, piece string }{
		{"Content-Length: 65536", " "},
		{"Transfer-Encoding: chunked", "1\r\n \r\n"},
	}
	errs := make([]error, len(framings))
	var wg sync.WaitGroup
	for i, framing := range framings {
		wg.Go(func() {
			f, err := t.feed(framing.header, limit, drip(framing.piece, limit))
			switch {
			case err != nil:
				errs[i] = err
			case !f.ended:
				errs[i] = fmt.Errorf("a body (%s) of which a byte comes every %v: the receiver %v; expected a 408, or the connection closed, within %v",
					framing.header, trickle, f, t.deadline)
			case f.ok():
				errs[i] = fmt.Errorf("a body (%s) that had not come to its end: the receiver %v; expected a 4xx", framing.header, f)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// received returns all answers so far. If the obligations before this one have
// been left out with -run, it makes some requests first.
func (t *target) received() ([]reply, error) {
	if replies := t.recorded(); len(replies) > 0 {
		return replies, nil
	}
	for i := range t.bodies {
		o, err := t.genuine(i)
		if err != nil {
			return nil, err
		}
		t.send(o)
	}
	for kind := range forgeries {
		orders, err := t.forged(kind)
		if err != nil {
			return nil, err
		}
		if len(orders) > 0 {
			t.send(orders[0])
		}
	}
	for _, method := range append([]string{http.MethodPut}, t.sender.Contract.Probe...) {
		t.send(order{what: "an unsigned " + method, method: method})
	}
	return t.recorded(), nil
}

func (t *target) answersBriefly() error {
	limit := t.sender.Contract.MaxResponse
	if limit <= 0 {
		return fmt.Errorf("%w: the contract has no MaxResponse", errNothing)
	}
	return t.everyAnswer(func(r reply) string {
		if r.size <= limit {
			return ""
		}
		return fmt.Sprintf("answered %s with more than %d bytes; expected no more", statusLine(r.status), limit)
	})
}

func (t *target) avoidsForbidden() error {
	forbidden := t.sender.Contract.Forbidden
	if len(forbidden) == 0 {
		return fmt.Errorf("%w: the contract has no Forbidden", errNothing)
	}
	return t.everyAnswer(func(r reply) string {
		if !slices.Contains(forbidden, r.status) {
			return ""
		}
		return fmt.Sprintf("answered %s; expected any status but %v", statusLine(r.status), forbidden)
	})
}

// everyAnswer returns an error for each kind of request that got an answer
// with something wrong.
func (t *target) everyAnswer(wrong func(reply) string) error {
	replies, err := t.received()
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, r := range replies {
		if what := wrong(r); what != "" {
			found[fmt.Sprintf("%s: the receiver %s", r.what, what)] = true
		}
	}
	var errs []error
	for _, text := range slices.Sorted(maps.Keys(found)) {
		errs = append(errs, errors.New(text))
	}
	return faults(errs)
}
