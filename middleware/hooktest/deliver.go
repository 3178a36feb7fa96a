package hooktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// keptBody is how much of an answer is kept, in bytes.
const keptBody = 1 << 20

// Report is what became of a delivery.
type Report struct {
	// Attempts has at least one, unless Deliver returned an error.
	Attempts []Attempt

	// GaveUp: every attempt failed, and the sender makes no more.
	GaveUp bool

	// SwitchedOff: the last answer's status is one of Contract.Forbidden, so
	// the sender delivers nothing to this URL any more. GaveUp is then true
	// too.
	SwitchedOff bool
}

// Attempt is one request of a delivery.
type Attempt struct {
	Waited  time.Duration // the contract's pause before it; 0 for the first
	Elapsed time.Duration // from its start until the answer was there or it failed
	Status  int           // of the answer; 0 if none came
	Header  http.Header   // of the answer; nil if none came
	Body    []byte        // of the answer, as far as it came and 1 MiB of it at most

	// Err says why the sender counts the attempt as failed; nil if it does
	// not. It wraps context.DeadlineExceeded if the whole answer was not there
	// within Contract.Deadline.
	Err error
}

// Deliver delivers body to url, which is http or https, as the sender would:
// in a POST of type application/json, and again after each of
// Contract.Retries until an attempt succeeds. Every attempt is signed anew, so
// that under DSA no two have the same signature.
//
// An attempt succeeds if an answer with a 2xx status is there as a whole within
// Contract.Deadline of the attempt's start, connecting included, and has no
// more than Contract.MaxResponse bytes. Redirects are not followed: a 3xx is a
// failure. A status in Contract.Forbidden ends the delivery at once.
//
// A receiver that fails is in the Report. The error is for what is not its
// fault: the Sender lacks something, Sign fails, url is not usable, ctx ends,
// or Wait returns an error. The Report is never nil and has the attempts made
// until then.
func (s *Sender) Deliver(ctx context.Context, url string, body []byte) (*Report, error) {
	report := &Report{}
	if err := s.ready(); err != nil {
		return report, err
	}
	if err := checkURL(url); err != nil {
		return report, err
	}
	client := &http.Client{CheckRedirect: stay}
	if s.Client != nil {
		client.Transport = s.Client.Transport
	} else {
		own := &http.Transport{}
		defer own.CloseIdleConnections()
		client.Transport = own
	}
	for i := 0; ; i++ {
		var waited time.Duration
		if i > 0 {
			waited = s.Contract.Retries[i-1]
			if err := s.wait(ctx, waited); err != nil {
				return report, fmt.Errorf("hooktest: waiting for attempt %d: %w", i+1, err)
			}
		}
		if ctx.Err() != nil {
			return report, fmt.Errorf("hooktest: before attempt %d: %w", i+1, context.Cause(ctx))
		}
		signature, err := value(s.Sign, body)
		if err != nil {
			return report, err
		}
		attempt, err := s.attempt(ctx, client, url, body, signature)
		if err != nil {
			return report, err
		}
		attempt.Waited = waited
		report.Attempts = append(report.Attempts, attempt)
		switch {
		case attempt.Err == nil:
			return report, nil
		case ctx.Err() != nil:
			report.Attempts[i].Err = context.Cause(ctx)
			return report, fmt.Errorf("hooktest: during attempt %d: %w", i+1, context.Cause(ctx))
		case slices.Contains(s.Contract.Forbidden, attempt.Status):
			report.GaveUp, report.SwitchedOff = true, true
			return report, nil
		case i == len(s.Contract.Retries):
			report.GaveUp = true
			return report, nil
		}
	}
}

// stay makes a client return a redirect instead of following it.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("hooktest: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("hooktest: %q is not an http or https URL", u.Redacted())
	}
	return nil
}

func (s *Sender) wait(ctx context.Context, d time.Duration) error {
	if s.Wait != nil {
		return s.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attempt makes one. Its error means that it could not be made.
func (s *Sender) attempt(ctx context.Context, client *http.Client, url string, body []byte, signature string) (Attempt, error) {
	limit := s.Contract.Deadline
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	req, err := newRequest(ctx, http.MethodPost, url, body)
	if err != nil {
		return Attempt{}, fmt.Errorf("hooktest: %w", err)
	}
	req.Header.Set(s.Header, signature)
	a := exchange(client, req, s.Contract.MaxResponse)
	attempt := Attempt{Elapsed: a.elapsed, Status: a.status, Header: a.header, Body: a.body}
	switch {
	case slices.Contains(s.Contract.Forbidden, a.status):
		attempt.Err = fmt.Errorf("the receiver answered %s, which switches the webhook off", statusLine(a.status))
	case a.late():
		attempt.Err = fmt.Errorf("the whole answer was not there within %v: %w", limit, context.DeadlineExceeded)
	case a.status == 0:
		attempt.Err = fmt.Errorf("no answer: %w", a.err)
	case a.status >= 300 && a.status < 400:
		attempt.Err = fmt.Errorf("the receiver answered %s, and the sender follows no redirects", statusLine(a.status))
	case !a.ok():
		attempt.Err = fmt.Errorf("the receiver answered %s, not a 2xx", statusLine(a.status))
	case s.Contract.MaxResponse > 0 && a.size > s.Contract.MaxResponse:
		attempt.Err = fmt.Errorf("the answer has more than %d bytes", s.Contract.MaxResponse)
	case a.err != nil:
		attempt.Err = fmt.Errorf("the answer broke off: %w", a.err)
	}
	return attempt, nil
}

// String tells the attempts and the end of the delivery, a line each, without
// headers and bodies.
func (r *Report) String() string {
	var b strings.Builder
	for i, a := range r.Attempts {
		fmt.Fprintf(&b, "attempt %d", i+1)
		if i > 0 {
			fmt.Fprintf(&b, ", %v later", a.Waited)
		}
		what := statusLine(a.Status)
		if a.Err != nil {
			what = a.Err.Error()
		}
		fmt.Fprintf(&b, ": %s (after %v)\n", what, a.Elapsed.Round(100*time.Microsecond))
	}
	switch n := len(r.Attempts); {
	case r.SwitchedOff:
		b.WriteString("not delivered: the sender has switched the webhook off")
	case r.GaveUp:
		b.WriteString("not delivered: the sender has given up")
	case n > 0 && r.Attempts[n-1].Err == nil:
		b.WriteString("delivered")
	default:
		b.WriteString("not delivered: interrupted")
	}
	return b.String()
}

// newRequest makes a request with body, asking for an uncompressed answer so
// that its size is what the receiver says it is.
func newRequest(ctx context.Context, method, url string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	return req, nil
}

// answer is what came back for a request.
type answer struct {
	status  int // 0: nothing
	header  http.Header
	body    []byte // the first keptBody bytes
	size    int64  // of all that was read
	elapsed time.Duration
	err     error // why it is not whole
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// late reports whether the request's context ended before the answer did.
func (a answer) late() bool { return errors.Is(a.err, context.DeadlineExceeded) }

// exchange sends req and reads the answer to its end, but no further than one
// byte beyond limit if that is positive.
func exchange(client *http.Client, req *http.Request, limit int64) (a answer) {
	start := time.Now()
	defer func() { a.elapsed = time.Since(start) }()
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return answer{err: err}
	}
	defer resp.Body.Close()
	var r io.Reader = resp.Body
	if limit > 0 {
		r = io.LimitReader(r, limit+1)
	}
	a = answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(io.LimitReader(r, keptBody))
	a.size = int64(len(a.body))
	if a.err == nil {
		var rest int64
		rest, a.err = io.Copy(io.Discard, r)
		a.size += rest
	}
	return a
}

// statusLine returns a status with its text, such as "404 Not Found".
func statusLine(status int) string {
	return strings.TrimSpace(fmt.Sprint(status, " ", http.StatusText(status)))
}
