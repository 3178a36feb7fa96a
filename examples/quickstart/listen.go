package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// serve keeps the receiver running until ctx is over.
func serve(ctx context.Context, out io.Writer, o options, senders []*sender, rc *receiver) error {
	logger := log.New(out, "", 0) // lets deliveries that arrive together write one after the other
	mux := o.routes(rc, http.HandlerFunc(handle), func(_ *http.Request, res middleware.Result) {
		line := fmt.Sprintf("%s %s %s %d", time.Now().Format(time.TimeOnly), res.Sender, res.Outcome, res.Status)
		if res.Err != nil {
			line += ": " + res.Err.Error() // has no secret and nothing of the body
		}
		logger.Print(line)
	})
	return serving(ctx, o.listen, mux, func(ctx context.Context, base string) error {
		for _, s := range senders {
			requests, err := s.toTry()
			if err != nil {
				return err
			}
			for _, r := range requests {
				logger.Printf("# %s, %s: answered %d\n%s\n\n", r.group, r.what, r.want.status, curl(base, r))
			}
		}
		logger.Print("The keys are new at every start, so these commands serve this one only. Interrupt to stop.\n\n")
		<-ctx.Done()
		return nil
	})
}

// curl returns the command that sends r, for a POSIX shell.
func curl(base string, r *request) string {
	words := []string{"curl", "-i"}
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		for _, value := range r.header[name] {
			words = append(words, "-H", quoted(name+": "+value))
		}
	}
	words = append(words, "--data-binary", quoted(string(r.body)), quoted(base+r.path))
	return strings.Join(words, " ")
}

// quoted returns s as one word of a POSIX shell.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
