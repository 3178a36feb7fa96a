package middleware

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

var (
	errResponseTooLarge = errors.New("middleware: the answer is larger than Contract.MaxResponse")
	errForbidden        = errors.New("middleware: the answer has a status that Contract.Forbidden names")
	errWriter           = errors.New("middleware: the ResponseWriter panicked")
)

// answer is the ResponseWriter of a handler whose answer is held back until it
// is decided whether that leaves. Its methods are the handler's, but for those
// that say otherwise.
type answer struct {
	w     http.ResponseWriter // where it goes
	mu    *sync.Mutex         // of w; nil if the handler has w for itself
	gone  atomic.Bool         // another answer has left: what is written is discarded
	limit int64               // Contract.MaxResponse

	status int         // 0: nothing written
	header http.Header // nil: the handler has not asked for it
	sent   http.Header // header as it was when the status was written
	body   []byte
	over   bool // more than limit bytes were written
}

// Header returns what w has from handlers before the Guard, to add to or to
// change, as w.Header would.
func (a *answer) Header() http.Header {
	if a.header == nil {
		if a.mu != nil {
			a.mu.Lock()
			defer a.mu.Unlock()
		}
		a.header = make(http.Header)
		if !a.gone.Load() {
			maps.Copy(a.header, a.w.Header())
		}
	}
	return a.header
}

func (a *answer) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("middleware: invalid WriteHeader code %d", status)) // as net/http does
	}
	// An answer that is held back has no use for the informational 1xx.
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	if a.header != nil {
		a.sent = a.header.Clone()
	}
}

func (a *answer) Write(p []byte) (int, error)       { return write(a, p) }
func (a *answer) WriteString(s string) (int, error) { return write(a, s) }

func write[T []byte | string](a *answer, p T) (int, error) {
	a.WriteHeader(http.StatusOK) // unless there is a status
	switch {
	case !bodyAllowed(a.status):
		return 0, http.ErrBodyNotAllowed
	case a.gone.Load():
		return len(p), nil
	case a.limit > 0 && int64(len(a.body)+len(p)) > a.limit:
		a.over = true
	}
	if a.over {
		return 0, errResponseTooLarge
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// own returns the status that the handler meant to answer with.
func (a *answer) own() int {
	if a.status == 0 {
		return http.StatusOK // as net/http has it
	}
	return a.status
}

// send writes the answer to w, whose mutex the caller holds. With now it is
// whole and on its way when send returns, though the request is not over. It
// returns an error if w panics, as one that somebody has wrapped may.
func (a *answer) send(now bool) (err error) {
	defer func() {
		if recover() != nil {
			err = errWriter
		}
	}()

	if a.header != nil {
		from := a.sent
		if from == nil { // the handler has returned without a word
			from = a.header
		}
		to := a.w.Header()
		clear(to)
		maps.Copy(to, from)
	}
	if now {
		h := a.w.Header()
		if bodyAllowed(a.own()) {
			h.Set("Content-Length", strconv.Itoa(len(a.body)))
		}
		// The connection stays busy until the handler returns: the sender's
		// next delivery needs another one.
		h.Set("Connection", "close")
	}
	if a.status != 0 || now {
		a.w.WriteHeader(a.own())
	}
	if len(a.body) > 0 {
		// A client that has gone is nobody to tell.
		_, _ = a.w.Write(a.body)
	}
	if now {
		_ = http.NewResponseController(a.w).Flush()
	}
	return nil
}

// replace makes the answer one of a status and its text.
func (a *answer) replace(status int) {
	a.status, a.body, a.over = status, []byte(http.StatusText(status)+"\n"), false
	a.header = http.Header{
		"Content-Type":           {"text/plain; charset=utf-8"},
		"X-Content-Type-Options": {"nosniff"},
	}
	a.sent = a.header
}

// enforce replaces the answer if the sender must not get it, and says why.
func (a *answer) enforce(c *Contract) (Outcome, error) {
	switch {
	case a.over:
		a.replace(c.allowed(http.StatusInternalServerError))
		return ResponseTooLarge, errResponseTooLarge
	case c.allowed(a.own()) != a.own():
		a.replace(c.allowed(a.own()))
		return Forbidden, errForbidden
	}
	return Accepted, nil
}

// allowed returns status, or 500 in its place if the contract forbids it, or
// 503 if it forbids that too.
func (c *Contract) allowed(status int) int {
	for _, s := range []int{status, http.StatusInternalServerError} {
		if !slices.Contains(c.Forbidden, s) {
			return s
		}
	}
	return http.StatusServiceUnavailable
}
