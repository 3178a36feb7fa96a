// Bench prints how fast hooktrust is beside the standard library, other
// webhook libraries and OpenSSL, as one table in Markdown:
//
//	go -C internal/bench run .
//
// It takes about a minute and a half. -benchtime is how long each measurement runs,
// or how often, as in 100x; -rounds is how often all of them are repeated.
//
// The two sides of a row are measured one right after the other, and in the
// next round in the other order; the table shows medians over the rounds.
// Before each measurement both a genuine and a tampered delivery are tried, so
// that nothing is measured that accepts or refuses everything.
//
// OpenSSL needs cgo and the headers of OpenSSL 3 (libssl-dev). The command
// looks for them and, if they are there, runs itself with -tags openssl.
// Without them those rows say that they were not measured, and why.
//
// The other libraries are dependencies of this module only, which is nested so
// that hooktrust does not depend on them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
)

func main() {
	testing.Init() // testing.Benchmark reads the flag test.benchtime
	var status exitStatus
	switch err := run(os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &status):
		os.Exit(int(status))
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// exitStatus is that of a process that has already said what went wrong.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	rounds := fs.Int("rounds", 11, "how often everything is measured")
	benchtime := fs.String("benchtime", "80ms", "how long, or how often (100x), one measurement runs")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *rounds < 1 {
		return fmt.Errorf("-rounds is %d, and must be at least 1", *rounds)
	}
	if err := flag.Set("test.benchtime", *benchtime); err != nil {
		return fmt.Errorf("-benchtime: %w", err)
	}
	missing, done, err := relay(args, stdout, stderr)
	if done || err != nil {
		return err
	}
	return measureAll(*rounds, *benchtime, missing, stdout, stderr)
}

// measureAll measures and prints everything. missing says why there is nothing
// of OpenSSL's, if there is not.
func measureAll(rounds int, benchtime, missing string, stdout, stderr io.Writer) error {
	rows, err := allRows()
	if err != nil {
		return err
	}
	for round := range rounds {
		fmt.Fprintf(stderr, "round %d of %d\n", round+1, rounds)
		for _, r := range rows {
			if err := r.measure(round%2 == 1); err != nil {
				return fmt.Errorf("%s: %w", r.what, err)
			}
		}
	}
	return printTable(stdout, rows, rounds, benchtime, missing)
}

// allRows returns the rows of the table, in its order.
func allRows() ([]*row, error) {
	var all []*row
	for _, rows := range []func() ([]*row, error){stdlibRows, peerRows, openSSLRows} {
		rows, err := rows()
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}
