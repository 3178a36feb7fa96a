package main

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestPeersAgree: what is measured accepts what is genuine and refuses what is
// not, on both sides of every row.
func TestPeersAgree(t *testing.T) {
	peers, err := peers()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, p := range peers {
		seen[p.module] = true
		t.Run(p.name, func(t *testing.T) {
			if err := p.check(); err != nil {
				t.Error(err)
			}
		})
	}
	if len(modules) == 0 {
		t.Error("there are no peers")
	}
	for _, module := range modules {
		if !seen[module] {
			t.Errorf("there is no peer of %s", module)
		}
	}
	if len(seen) != len(modules) {
		t.Errorf("peers of %d modules, and %d modules are listed", len(seen), len(modules))
	}

	rows, err := allRows()
	if err != nil {
		t.Fatal(err)
	}
	checks := 0
	for _, r := range rows {
		for _, s := range []*side{r.ours, r.other} {
			if s == nil || s.check == nil {
				continue
			}
			checks++
			t.Run(r.what+"/"+s.name, func(t *testing.T) {
				if err := s.check(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if checks < 2*len(peers) {
		t.Errorf("only %d sides were checked", checks)
	}
}

// TestCheckFindsWhatIsWrong: a check that never fails would prove nothing.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	peers, err := peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		credulous, stubborn := p.receiver, p.receiver
		if p.verify != nil {
			credulous.verify = func([]byte, http.Header) error { return nil }
			stubborn.verify = func([]byte, http.Header) error { return errRefused }
		} else {
			credulous.receive = handler(func(next http.Handler) http.Handler { return next })
			stubborn.receive = handler(func(http.Handler) http.Handler { return http.NotFoundHandler() })
		}
		if credulous.check() == nil {
			t.Errorf("%s: check passes what accepts everything", p.name)
		}
		if stubborn.check() == nil {
			t.Errorf("%s: check passes what refuses everything", p.name)
		}
	}
}

func TestBody(t *testing.T) {
	if len(body) != 1<<10 {
		t.Errorf("the body has %d bytes", len(body))
	}
}

// TestTable measures everything, shortly: it proves that the measurements run
// and that the table has them all.
func TestTable(t *testing.T) {
	benchtime(t, "2x")
	for _, missing := range []string{"", "needs cgo and libssl-dev"} {
		var out bytes.Buffer
		if err := measureAll(1, "2x", missing, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		table := out.String()
		rows, err := allRows()
		if err != nil {
			t.Fatal(err)
		}
		want := len(rows) + 2 // with the head and the line below it
		if missing != "" {
			want += len(openSSLSubjects)
		}
		if got := len(regexp.MustCompile(`(?m)^\|(.*\|){5}$`).FindAllString(table, -1)); got != want {
			t.Errorf("%d lines of five columns, want %d", got, want)
		}
		if got := strings.Count(table, "not measured: "); (got > 0) != (missing != "") {
			t.Errorf("%d rows say that they were not measured", got)
		}
		for _, text := range append([]string{runtime.Version(), "medians of 1 interleaved rounds of 2x"}, modules...) {
			if !strings.Contains(table, text) {
				t.Errorf("the table does not say %q", text)
			}
		}
		for _, text := range []string{"NaN", "Inf", "%!", "version unknown"} {
			if strings.Contains(table, text) {
				t.Errorf("the table says %q", text)
			}
		}
		if t.Failed() {
			t.Logf("%s", table)
		}
	}
}

// benchtime sets how long benchmarks run during the test.
func benchtime(t *testing.T, value string) {
	t.Helper()
	f := flag.Lookup("test.benchtime")
	before := f.Value.String()
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

func TestRowWithoutMeasurableDifference(t *testing.T) {
	r := row{"overhead", &side{samples: []sample{{-3, 0}}}, &side{samples: []sample{{5, 2}}}}
	if got, want := r.markdown(), "| overhead | -3 ns | 5 ns | lost in the noise | 0 / 2 |"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRowRatio(t *testing.T) {
	ours := &side{samples: []sample{{900, 0}, {100, 0}, {500, 1}}}
	other := &side{samples: []sample{{1800, 7}, {1200, 7}, {1250, 7}}}
	r := row{"both", ours, other}
	if got, want := r.markdown(), "| both | 500 ns | 1.25 µs | 2.50 | 0 / 7 |"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRunRefusesBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-benchtime", "soon"}, {"-rounds", "1", "x"}, {"-unknown"}} {
		if run(args, io.Discard, io.Discard) == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
