package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

// TestContract holds the bot to everything that it owes ConvoKraft and itself.
func TestContract(t *testing.T) {
	t.Parallel()
	var worked atomic.Int64
	b := &bot{log: slog.New(slog.DiscardHandler), work: func(ctx context.Context, req *request) (response, error) {
		worked.Add(1)
		return work(ctx, req)
	}}
	receiver, _ := newReceiver(verifier(), b, b.log)
	s := sender(current)
	s.Effects = func() int { return int(worked.Load()) }
	hooktest.TestReceiver(t, receiver, s, []byte(execute), []byte(`{"todo":"prompt","environment":"development","params":{}}`))
}

func TestResponses(t *testing.T) {
	t.Parallel()
	said := func(message string) string {
		return `{"status":"execution","message":"` + message + `","card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`
	}
	sorry := said("Sorry, that did not work. Please try again.")
	tests := []struct{ name, body, want string }{
		{"prompt", `{"todo":"prompt","params":{}}`, `{"status":"prompt","prompt":{"param_name":"leave_type","options":[` +
			`{"id":"casual","label":"Casual leave"},{"id":"sick","label":"Sick leave"}],"buttons":[]},"message":"What kind of leave is it?","data":{}}`},
		{"prompt with all there", `{"todo":"prompt","params":{"leave_type":"sick"}}`, said("Thank you, that is all I need.")},
		{"execute", execute, said("Noted: sick leave.")},
		{"button", `{"todo":"button","button_id":"b1"}`, said("You chose b1.")},
		{"button, a number", `{"todo":"button","button_id":1}`, said("You chose 1.")},
		{"fallback", `{"todo":"fallback","userInput":"?"}`, said("I can enter leave for you. Just say: I need a day off.")},
		{"another type than expected", `{"todo":"execute","params":{"leave_type":"sick"},"cache":""}`, said("Noted: sick leave.")},
		{"unknown", `{"todo":"dance"}`, sorry},
		{"empty", `{}`, sorry},
		{"not an object", `[]`, sorry},
		{"nothing", ``, sorry},
	}
	log := slog.New(slog.DiscardHandler)
	receiver, _ := newReceiver(verifier(), &bot{log: log, work: work}, log)
	srv := httptest.NewServer(receiver)
	defer srv.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := deliver(t, sender(current), srv.URL, tt.body)
			require.NoError(t, a.Err)
			assert.JSONEq(t, tt.want, string(a.Body))
		})
	}
}

// TestLargeResponses shows what happens at ConvoKraft's 100 KB: a message is
// cut short, and what else is too large never leaves, which the log tells.
func TestLargeResponses(t *testing.T) {
	t.Parallel()
	const tooMuch = 200_000
	cards := tell("Here they are.")
	for range 1000 {
		cards.Card = append(cards.Card, object{"title": strings.Repeat("x", tooMuch/1000)})
	}
	unfit := tell("x")
	unfit.Data = object{"f": func() {}}
	tests := []struct {
		name     string
		response response
		status   int
		wantLog  []string
	}{
		{"long message", tell(strings.Repeat("x", tooMuch)), http.StatusOK, []string{"outcome=accepted", "level=INFO"}},
		{"too many cards", cards, http.StatusInternalServerError, []string{"outcome=response_too_large", "level=ERROR", "leave out some"}},
		{"nothing that JSON can hold", unfit, http.StatusInternalServerError, []string{"outcome=accepted status=500", "level=WARN"}},
		{"none", nil, http.StatusOK, []string{"gave no response"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l logs
			b := &bot{log: l.logger(), work: func(context.Context, *request) (response, error) { return tt.response, nil }}
			receiver, _ := newReceiver(verifier(), b, b.log)
			srv := httptest.NewServer(receiver)
			defer srv.Close()
			a := deliver(t, sender(current), srv.URL, execute)
			srv.Close() // what is logged after the answer is logged now
			assert.Equal(t, tt.status, a.Status)
			if tt.status == http.StatusOK {
				require.NoError(t, a.Err)
				assert.True(t, json.Valid(a.Body))
			}
			for _, words := range tt.wantLog {
				assert.Contains(t, l.String(), words)
			}
		})
	}
}

// TestLate plays ConvoKraft against work that takes 30 s.
func TestLate(t *testing.T) {
	verifier() // outside the bubble: it takes real time
	kept := func(t *testing.T, start time.Time, fail error) (func(context.Context, *request, response) error, *atomic.Int64) {
		var n atomic.Int64
		return func(ctx context.Context, req *request, resp response) error {
			n.Add(1)
			assert.Equal(t, 30*time.Second, time.Since(start))
			assert.Equal(t, text("zoe@example.com"), req.User["email"])
			assert.Equal(t, tell("Noted: sick leave."), resp)
			assert.NoError(t, ctx.Err())
			return fail
		}, &n
	}
	for _, tt := range []struct {
		name      string
		canFollow bool
		fail      error
		wantLog   string
	}{
		{"lost", false, nil, "came too late and is lost"},
		{"kept", true, nil, ""},
		{"not kept", true, errors.New("the disk is full"), "the disk is full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				afterwards, n := kept(t, start, tt.fail)
				b := &bot{work: slowly(30*time.Second, work)}
				if tt.canFollow {
					b.afterwards = afterwards
				}
				var l logs
				s, stop := served(t, b, &l)
				a := deliver(t, s, "http://bot/", execute)
				require.NoError(t, a.Err)
				assert.Equal(t, 4*time.Second, a.Elapsed, "a second before ConvoKraft stops waiting")
				assert.JSONEq(t, `{"status":"execution","message":"This takes longer than usual. I am still working on it.",`+
					`"card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`, string(a.Body))
				require.NoError(t, stop())
				assert.Equal(t, 30*time.Second, time.Since(start), "stopping waits for the work")
				assert.Equal(t, tt.canFollow, n.Load() == 1)
				assert.Contains(t, l.String(), "outcome=late ")
				assert.Contains(t, l.String(), "outcome=late_done ")
				assert.Contains(t, l.String(), tt.wantLog)
			})
		})
	}
}

// TestResponseAtTheDeadline has the work and Late end at the same instant: the
// user gets the work's response, or afterwards does, exactly once.
func TestResponseAtTheDeadline(t *testing.T) {
	verifier()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var followed atomic.Int64
			var l logs
			s, stop := served(t, &bot{
				work: slowly(4*time.Second, work),
				afterwards: func(context.Context, *request, response) error {
					followed.Add(1)
					return nil
				},
			}, &l)
			a := deliver(t, s, "http://bot/", execute)
			require.NoError(t, a.Err)
			require.NoError(t, stop())
			assert.Equal(t, strings.Contains(string(a.Body), "longer than usual"), followed.Load() == 1, "%s", a.Body)
		})
	}
}

func TestTurn(t *testing.T) {
	t.Parallel()
	early := new(turn)
	assert.True(t, early.finish(tell("bot")))
	assert.Equal(t, tell("bot"), early.overdue(tell("wait")), "the Guard's timer was faster than the bot's return")
	late := new(turn)
	assert.Equal(t, tell("wait"), late.overdue(tell("wait")))
	assert.False(t, late.finish(tell("bot")))
}

// TestWorkEnds shows that work cannot take for ever.
func TestWorkEnds(t *testing.T) {
	verifier()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var l logs
		s, stop := served(t, &bot{work: slowly(time.Hour, work)}, &l)
		require.NoError(t, deliver(t, s, "http://bot/", execute).Err)
		time.Sleep(workTime)
		require.NoError(t, stop())
		assert.Less(t, time.Since(start), workTime+10*time.Second)
		assert.Contains(t, l.String(), "the work failed")
		assert.Contains(t, l.String(), context.DeadlineExceeded.Error())
	})
}

func TestWorkPanics(t *testing.T) {
	t.Parallel()
	var l logs
	b := &bot{log: l.logger(), work: func(context.Context, *request) (response, error) { panic("the user's words") }}
	receiver, _ := newReceiver(verifier(), b, b.log)
	srv := httptest.NewServer(receiver)
	defer srv.Close()
	a := deliver(t, sender(current), srv.URL, execute)
	assert.Equal(t, http.StatusInternalServerError, a.Status)
	srv.Close()
	assert.Contains(t, l.String(), "level=ERROR")
	assert.Contains(t, l.String(), "outcome=panicked")
	assert.NotContains(t, l.String(), "the user's words")
}

// TestLogs shows that refusals come with a hint, and that nothing of a
// conversation is logged.
func TestLogs(t *testing.T) {
	t.Parallel()
	var l logs
	b := &bot{log: l.logger(), work: work}
	receiver, _ := newReceiver(verifier(), b, b.log)
	srv := httptest.NewServer(receiver)
	defer srv.Close()
	malformed := sender(current)
	malformed.Sign = func([]byte) (string, error) { return "00ff", nil }
	for _, body := range []string{execute, `{"user":"zoe@example.com"}`, `"zoe@example.com"`} {
		deliver(t, sender(current), srv.URL, body)
		deliver(t, sender(stranger), srv.URL, body)
		deliver(t, malformed, srv.URL, body)
	}
	srv.Close()
	for _, words := range []string{"key=CONVOKRAFT_PUBLIC_KEY key_index=0", "field=user", "another CONVOKRAFT_HASH", "another CONVOKRAFT_ENCODING or CONVOKRAFT_FORMAT"} {
		assert.Contains(t, l.String(), words)
	}
	assert.NotContains(t, l.String(), "zoe@")
}

func TestBotWithoutAGuard(t *testing.T) {
	t.Parallel()
	b := &bot{log: slog.New(slog.DiscardHandler), work: work}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(execute)))
	assert.Equal(t, http.StatusInternalServerError, w.Code)
}
