package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A row of the table compares hooktrust with something else.
type row struct {
	what  string
	ours  *side
	other *side // nil if there is nothing to compare with
}

// side is one half of a row.
type side struct {
	name string

	// check returns an error if what is measured does not accept a genuine
	// delivery or does not refuse a tampered one. nil if it decides nothing.
	check func() error

	loop  func(*testing.B) error
	minus func(*testing.B) error // nil, or what is subtracted from loop

	samples []sample
}

// sample is what one operation costs.
type sample struct{ ns, allocs float64 }

// measure adds one sample to each side.
func (r *row) measure(otherFirst bool) error {
	sides := []*side{r.ours}
	if r.other != nil {
		sides = append(sides, r.other)
	}
	if otherFirst {
		slices.Reverse(sides)
	}
	for _, s := range sides {
		if err := s.measure(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (s *side) measure() error {
	if s.check != nil {
		if err := s.check(); err != nil {
			return err
		}
	}
	got, err := measure(s.loop)
	if err != nil {
		return err
	}
	if s.minus != nil {
		base, err := measure(s.minus)
		if err != nil {
			return err
		}
		got.ns -= base.ns
		got.allocs -= base.allocs
	}
	s.samples = append(s.samples, got)
	return nil
}

func measure(loop func(*testing.B) error) (sample, error) {
	err := errors.New("did not run")
	r := testing.Benchmark(func(b *testing.B) {
		if err = loop(b); err != nil {
			b.FailNow()
		}
	})
	if err == nil && r.N == 0 {
		err = errors.New("the benchmark failed")
	}
	if err != nil {
		return sample{}, err
	}
	return sample{float64(r.T.Nanoseconds()) / float64(r.N), float64(r.MemAllocs) / float64(r.N)}, nil
}

// median returns the medians of time and of allocations over all samples.
func (s *side) median() sample {
	var ns, allocs []float64
	for _, x := range s.samples {
		ns = append(ns, x.ns)
		allocs = append(allocs, x.allocs)
	}
	return sample{median(ns), median(allocs)}
}

func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

func printTable(w io.Writer, rows []*row, rounds int, benchtime, missing string) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s, %s %s/%s, %s, %d CPUs; medians of %d interleaved rounds of %s.\n\n",
		time.Now().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		cpuModel(), runtime.NumCPU(), rounds, benchtime)
	fmt.Fprintln(out, "| what | hooktrust | other | times as fast | allocations, ours / other |")
	fmt.Fprintln(out, "|---|--:|--:|--:|--:|")
	for _, r := range rows {
		fmt.Fprintln(out, r.markdown())
	}
	if missing != "" {
		for _, what := range openSSLSubjects {
			fmt.Fprintf(out, "| %s beside OpenSSL | | not measured: %s | | |\n", what, missing)
		}
	}
	fmt.Fprintf(out, "\n%s\n", versions())
	fmt.Fprintf(out, "\n%s\n", strings.TrimSpace(notes))
	note, err := openSSLNote()
	if err != nil {
		return err
	}
	if note != "" {
		fmt.Fprintf(out, "\n%s\n", note)
	}
	return out.Flush()
}

const notes = `
"Times as fast" is the other time over hooktrust's, as the median of the rounds'
ratios: above 1 hooktrust is faster.

Every side gets the same 1 KiB of JSON (64 times that where the row says so),
signed in the form that it expects. Stripe, Standard Webhooks, Svix and Slack also
sign a timestamp, so they hash some bytes more and look at the clock; hooktrust's
schemes have none. The rows with Guard read an *http.Request, and where the other
side then decodes the JSON, hooktrust's side does it with the same type. In the
row of the deadline alone, the Guard answers a real server's ResponseWriter, and
http.TimeoutHandler one that costs nothing.
`

func (r *row) markdown() string {
	ours := r.ours.median()
	if r.other == nil {
		return fmt.Sprintf("| %s | %s | – | – | %s / – |", r.what, duration(ours.ns), whole(ours.allocs))
	}
	other := r.other.median()
	ratio := "lost in the noise"
	if x := r.ratio(); ours.ns > 0 && other.ns > 0 && x > 0 && !math.IsInf(x, 0) {
		ratio = significant(x)
	}
	allocs := whole(other.allocs)
	if r.other.name == openSSL {
		allocs = "–" // Go does not see them
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s / %s |",
		r.what, duration(ours.ns), duration(other.ns), ratio, whole(ours.allocs), allocs)
}

// whole writes x as a whole number; %.0f would write a little less than 0, as
// a difference may be, as -0.
func whole(x float64) string { return strconv.Itoa(int(math.Round(x))) }

// ratio returns the median of the rounds' ratios. What disturbs a round
// disturbs both sides, so it is steadier than the ratio of the medians.
func (r *row) ratio() float64 {
	var ratios []float64
	for i, ours := range r.ours.samples {
		ratios = append(ratios, r.other.samples[i].ns/ours.ns)
	}
	return median(ratios)
}

// openSSL is the name of the sides that run in C.
const openSSL = "OpenSSL"

func duration(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return significant(ns/1e3) + " µs"
	default:
		return significant(ns/1e6) + " ms"
	}
}

// significant writes x with three digits, or all before the point.
func significant(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

// cpuModel returns the processor's name as Linux tells it.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// versions lists the versions of the other libraries.
func versions() string {
	version := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			version[m.Path] = m.Version
		}
	}
	list := make([]string, len(modules))
	for i, path := range modules {
		v := version[path]
		if v == "" {
			v = "(version unknown)"
		}
		list[i] = path + " " + v
	}
	return "Measured: " + strings.Join(list, ", ") + "."
}

// openSSLSubjects are what is compared with OpenSSL, in the order of the rows.
var openSSLSubjects = []string{
	"DSA (1024,160) Verify",
	"DSA (2048,224) Verify",
	"DSA (2048,256) Verify",
	"DSA (3072,256) Verify",
	"RSA 2048 Verify",
	"HMAC-SHA256 Verify",
}
