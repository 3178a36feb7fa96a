package main

import (
	"context"
	"fmt"
	"time"
)

// workTime is how long work may take in all.
const workTime = time.Minute

// work is the bot's logic. REPLACE IT WITH YOURS.
//
// It may take long: after 4 s the user is told that it does, and work goes on.
// ctx ends after workTime, and when the program stops and cannot wait any
// longer; it does not end when ConvoKraft hangs up. On an error the user is
// asked to try again and the error is logged, so it should not quote the
// conversation.
func work(_ context.Context, req *request) (response, error) {
	switch req.Todo {
	case "prompt": // before each parameter that the action needs
		if req.Params["leave_type"] == "" {
			return ask("leave_type", "What kind of leave is it?",
				option{ID: "casual", Label: "Casual leave"},
				option{ID: "sick", Label: "Sick leave"}), nil
		}
		return tell("Thank you, that is all I need."), nil
	case "execute": // the action has its parameters
		return tell(fmt.Sprintf("Noted: %s leave.", req.Params["leave_type"])), nil
	case "button":
		return tell(fmt.Sprintf("You chose %s.", req.ButtonID)), nil
	case "fallback": // ConvoKraft did not understand the user
		return tell("I can enter leave for you. Just say: I need a day off."), nil
	}
	return nil, fmt.Errorf("the todo %q is not known", req.Todo)
}

// slowly is next, after d.
func slowly(d time.Duration, next worker) worker {
	return func(ctx context.Context, req *request) (response, error) {
		select {
		case <-time.After(d):
			return next(ctx, req)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
