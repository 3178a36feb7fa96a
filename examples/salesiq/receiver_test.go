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

// TestContract holds the bot to everything that it owes SalesIQ and itself.
func TestContract(t *testing.T) {
	t.Parallel()
	var thought atomic.Int64
	b := &bot{log: slog.New(slog.DiscardHandler), think: func(ctx context.Context, req *request) (answer, error) {
		thought.Add(1)
		return think(ctx, req)
	}}
	receiver, _ := newReceiver(verifier(t), b, b.log)
	s := sender(current)
	s.Effects = func() int { return int(thought.Load()) }
	hooktest.TestReceiver(t, receiver, s, []byte(question), []byte(`{"handler":"trigger","visitor":{"name":"Zoë"}}`))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	sorry := `{"action":"forward","replies":["I cannot answer that. I am getting a colleague."]}`
	tests := []struct{ name, body, want string }{
		{"arrival", `{"handler":"trigger","visitor":{"name":"Zoë"}}`, `{"action":"reply","replies":["Hello Zoë. What can I do for you?"]}`},
		{"arrival of somebody", `{"handler":"trigger","visitor":{}}`, `{"action":"reply","replies":["Hello. What can I do for you?"]}`},
		{"question", question, `{"action":"reply","replies":["I have not learnt that yet. Shall I get a colleague?"],"suggestions":["Yes","No"]}`},
		{"yes", `{"handler":"message","message":{"text":" Yes "}}`, `{"action":"forward","replies":["I am getting a colleague."]}`},
		{"no", `{"handler":"message","message":{"text":"no"}}`, `{"action":"end","replies":["Good bye."]}`},
		{"message as a string", `{"handler":"message","message":"bye"}`, `{"action":"end","replies":["Good bye."]}`},
		{"answers", `{"handler":"context","context_id":"c1","answers":{"name":{"text":"Zoë"}}}`, `{"action":"reply","replies":["Thank you, that is all I need."]}`},
		{"another type than documented", `{"handler":"message","message":{"text":"bye"},"visitor":"Zoë","attachments":{}}`, `{"action":"end","replies":["Good bye."]}`},
		{"unknown handler", `{"handler":"telepathy"}`, sorry},
		{"no handler", `{}`, sorry},
		{"not an object", `[]`, sorry},
		{"not JSON", `handler=message`, sorry},
		{"nothing", ``, sorry},
	}
	log := slog.New(slog.DiscardHandler)
	receiver, _ := newReceiver(verifier(t), &bot{log: log, think: think}, log)
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

// TestLate plays SalesIQ against a bot that takes 30 s, with and without a way
// to send the answer afterwards.
func TestLate(t *testing.T) {
	keyPairs() // outside the bubble: it takes real time
	for _, tt := range []struct {
		name, body string
		canFollow  bool
		want       string
		wantSent   bool
		wantLog    string
	}{
		{"cannot follow", question, false, "say", false, "came too late and is lost"},
		{"follows", question, true, "pending", true, ""},
		{"no ID to follow under", `{"handler":"message"}`, true, "say", false, "came too late and is lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				b := &bot{think: slowly(30*time.Second, think)}
				type sent struct {
					id     string
					answer answer
					after  time.Duration
				}
				follows := make(chan sent, 1)
				if tt.canFollow {
					b.afterwards = func(ctx context.Context, id string, a answer) error {
						follows <- sent{id, a, time.Since(start)}
						return ctx.Err()
					}
				}
				var l logs
				s, stop := served(t, b, &l)
				a := deliver(t, s, "http://bot/", tt.body)
				require.NoError(t, a.Err)
				assert.Equal(t, 9*time.Second, a.Elapsed, "a second before SalesIQ stops waiting")
				want := map[string]string{
					"say":     `{"action":"reply","replies":["I am still thinking about that. Please ask me again in a minute."]}`,
					"pending": `{"action":"pending","replies":["I am still thinking about that. The answer follows."]}`,
				}[tt.want]
				assert.JSONEq(t, want, string(a.Body))

				require.NoError(t, stop())
				assert.Equal(t, 30*time.Second, time.Since(start), "stopping waits for the bot")
				if tt.wantSent {
					require.Len(t, follows, 1)
					got := <-follows
					assert.Equal(t, "4fhgtd-gyywye6", got.id)
					assert.Equal(t, 30*time.Second, got.after)
					assert.Equal(t, say("I have not learnt that yet. Shall I get a colleague?").Replies, got.answer.Replies)
				}
				assert.Empty(t, follows)
				assert.Contains(t, l.String(), "outcome=late ")
				assert.Contains(t, l.String(), "outcome=late_done ")
				assert.Contains(t, l.String(), tt.wantLog)
			})
		})
	}
}

func TestFollowingFails(t *testing.T) {
	keyPairs()
	synctest.Test(t, func(t *testing.T) {
		var l logs
		s, stop := served(t, &bot{
			think:      slowly(30*time.Second, think),
			afterwards: func(context.Context, string, answer) error { return errors.New("the API is away") },
		}, &l)
		require.NoError(t, deliver(t, s, "http://bot/", question).Err)
		require.NoError(t, stop())
		assert.Contains(t, l.String(), "the API is away")
	})
}

// TestAnswerAtTheDeadline has the bot and Late answer at the same instant:
// the visitor gets the bot's answer, in time or afterwards, exactly once.
func TestAnswerAtTheDeadline(t *testing.T) {
	keyPairs()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var followed atomic.Int64
			var l logs
			s, stop := served(t, &bot{
				think: slowly(9*time.Second, think),
				afterwards: func(context.Context, string, answer) error {
					followed.Add(1)
					return nil
				},
			}, &l)
			a := deliver(t, s, "http://bot/", question)
			require.NoError(t, a.Err)
			require.NoError(t, stop())
			var got struct{ Action string }
			require.NoError(t, json.Unmarshal(a.Body, &got))
			switch got.Action {
			case "reply":
				assert.Zero(t, followed.Load())
			case "pending":
				assert.EqualValues(t, 1, followed.Load())
			default:
				assert.Fail(t, "unexpected answer", "%s", a.Body)
			}
		})
	}
}

func TestTurn(t *testing.T) {
	t.Parallel()
	early := new(turn)
	assert.True(t, early.finish(say("bot")))
	assert.Equal(t, say("bot"), early.overdue(say("wait")), "the Guard's timer was faster than the bot's return")
	late := new(turn)
	assert.Equal(t, say("wait"), late.overdue(say("wait")))
	assert.False(t, late.finish(say("bot")))
}

// TestThinkEnds shows that a bot cannot think for ever.
func TestThinkEnds(t *testing.T) {
	keyPairs()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var l logs
		s, stop := served(t, &bot{think: slowly(time.Hour, think)}, &l)
		require.NoError(t, deliver(t, s, "http://bot/", question).Err)
		time.Sleep(thinkTime)
		require.NoError(t, stop())
		assert.Less(t, time.Since(start), thinkTime+10*time.Second)
		assert.Contains(t, l.String(), "the bot has no answer")
		assert.Contains(t, l.String(), context.DeadlineExceeded.Error())
	})
}

func TestThinkPanics(t *testing.T) {
	t.Parallel()
	var l logs
	b := &bot{log: l.logger(), think: func(context.Context, *request) (answer, error) { panic("the visitor's words") }}
	receiver, _ := newReceiver(verifier(t), b, b.log)
	srv := httptest.NewServer(receiver)
	defer srv.Close()
	a := deliver(t, sender(current), srv.URL, question)
	assert.Equal(t, http.StatusInternalServerError, a.Status)
	srv.Close() // what is logged after the answer is logged now
	assert.Contains(t, l.String(), "level=ERROR")
	assert.Contains(t, l.String(), "outcome=panicked")
	assert.NotContains(t, l.String(), "the visitor's words")
}

// TestLogsAreDiscreet shows that nothing of a conversation is logged.
func TestLogsAreDiscreet(t *testing.T) {
	t.Parallel()
	var l logs
	b := &bot{log: l.logger(), think: think}
	receiver, _ := newReceiver(verifier(t), b, b.log)
	srv := httptest.NewServer(receiver)
	defer srv.Close()
	for _, body := range []string{question, `{"message":"order","visitor":"order"}`, `"order"`} {
		deliver(t, sender(current), srv.URL, body)
		deliver(t, sender(stranger), srv.URL, body)
	}
	srv.Close()
	assert.Contains(t, l.String(), "key=SALESIQ_PUBLIC_KEY\n", "which key has signed")
	assert.Contains(t, l.String(), "field=visitor")
	assert.NotContains(t, l.String(), "order")
}

func TestBotWithoutAGuard(t *testing.T) {
	t.Parallel()
	b := &bot{log: slog.New(slog.DiscardHandler), think: think}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(question)))
	assert.Equal(t, http.StatusInternalServerError, w.Code)
}
