package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// thinkTime is how long think may take in all. SalesIQ waits less than three
// minutes for an answer that is pending.
const thinkTime = 2 * time.Minute

// think is the bot. REPLACE IT WITH YOURS: look up the order, ask the model.
//
// It may take long: the visitor is told to wait after 9 s, and think goes on.
// ctx ends after thinkTime, and when the program stops and cannot wait any
// longer; it does not end when SalesIQ hangs up. An error forwards the visitor
// to a human and is logged, so it should not quote the conversation.
func think(_ context.Context, req *request) (answer, error) {
	switch req.Handler {
	case "trigger": // the visitor has come to the site
		greeting := "Hello. What can I do for you?"
		if name := req.Visitor.Name; name != "" {
			greeting = fmt.Sprintf("Hello %s. What can I do for you?", name)
		}
		return say(greeting), nil
	case "message":
		switch strings.ToLower(strings.TrimSpace(string(req.Message.Text))) {
		case "yes", "operator":
			return forward("I am getting a colleague."), nil
		case "no", "bye":
			return end("Good bye."), nil
		}
		a := say("I have not learnt that yet. Shall I get a colleague?")
		a.Suggestions = []string{"Yes", "No"}
		return a, nil
	case "context": // the visitor has answered a series of questions; req.Answers has them
		return say("Thank you, that is all I need."), nil
	}
	return answer{}, fmt.Errorf("the handler %q is not known", req.Handler)
}

// slowly is next, after d.
func slowly(d time.Duration, next thinker) thinker {
	return func(ctx context.Context, req *request) (answer, error) {
		select {
		case <-time.After(d):
			return next(ctx, req)
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}
