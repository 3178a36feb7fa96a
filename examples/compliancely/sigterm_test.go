package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

const (
	asProgram = "HOOKTRUST_TEST_AS_PROGRAM" // makes the test's binary the program
	senders   = 16                          // that deliver at one time
)

var failedOnce sync.Map

// slowWork is work that leaves something to wait for: it takes a while, so that
// the Pool is full part of the time, and now and then it fails at first.
func slowWork(ctx context.Context, d *middleware.Delivery) error {
	time.Sleep(rand.N(25 * time.Millisecond))
	if id := d.ID(); strings.HasSuffix(id, "00") { // one in 256
		if _, again := failedOnce.LoadOrStore(id, true); !again {
			return errors.New("the database is away")
		}
	}
	return work(ctx, d)
}

// tally is what became of a round's deliveries.
type tally struct {
	acknowledged map[string]bool // IDs answered 2xx
	worked       map[string]int  // IDs, how often
	refused      int             // answered 503
	text         string          // what the program wrote
	exit         error
}

// TestSIGTERM ends the program again and again while deliveries arrive, and
// looks for one that was acknowledged and not worked on.
func TestSIGTERM(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGTERM to send")
	}
	t.Parallel()
	rounds := 5
	if text := os.Getenv("HOOKTRUST_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err, "HOOKTRUST_ROUNDS")
		require.Positive(t, rounds, "HOOKTRUST_ROUNDS")
	}
	var acknowledged, worked, refused, lost int
	for round := range rounds {
		got := sigtermRound(t, round)
		require.NoError(t, got.exit, "round %d: exit status\n%s", round, tail(got.text))
		for id := range got.acknowledged {
			if got.worked[id] == 0 {
				lost++
			}
		}
		for id, times := range got.worked {
			assert.Equal(t, 1, times, "round %d: delivery %s", round, id) // none came twice
		}
		assert.NotContains(t, got.text, secret)
		assert.NotContains(t, got.text, "level=ERROR")
		acknowledged += len(got.acknowledged)
		worked += len(got.worked)
		refused += got.refused
	}
	t.Logf("%d times SIGTERM: %d deliveries answered 2xx, %d answered 503; worked on: %d; acknowledged and lost: %d",
		rounds, acknowledged, refused, worked, lost)
	assert.Zero(t, lost)
	assert.Positive(t, acknowledged)
	// A delivery whose answer the signal has cut off may be worked on, too.
	assert.GreaterOrEqual(t, worked, acknowledged)
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

var workedOn = regexp.MustCompile(`msg="worked on" id=([0-9a-f]{64})`)

// sigtermRound runs the program, delivers to it, and sends it SIGTERM.
func sigtermRound(t *testing.T, round int) tally {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), asProgram+"=1", "COMPLIANCELY_SECRET="+secret, "ADDR=127.0.0.1:0")
	output, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	got := tally{acknowledged: map[string]bool{}, worked: map[string]int{}}
	listening := make(chan string, 1)
	ended := make(chan struct{})
	go func() { // until the program closes its output, which is before Wait
		defer close(ended)
		var text strings.Builder
		for lines := bufio.NewScanner(output); lines.Scan(); {
			line := lines.Text()
			fmt.Fprintln(&text, line)
			if _, rest, ok := strings.Cut(line, "msg=listening addr="); ok {
				addr, _, _ := strings.Cut(rest, " ")
				listening <- addr
			}
			if match := workedOn.FindStringSubmatch(line); match != nil {
				got.worked[match[1]]++
			}
		}
		got.text = text.String()
	}()
	select {
	case addr := <-listening:
		got.deliver(ctx, t, round, "http://"+addr+path, func() error { return cmd.Process.Signal(syscall.SIGTERM) })
	case <-ended:
	}
	<-ended
	got.exit = cmd.Wait()
	return got
}

// deliver lets all senders deliver until they find the receiver gone, and calls
// end at some moment.
func (got *tally) deliver(ctx context.Context, t *testing.T, round int, url string, end func() error) {
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	defer transport.CloseIdleConnections()
	sender := compliancely(testConfig)
	sender.Client = &http.Client{Transport: transport}
	sender.Contract.Retries = nil // one attempt: what is answered 503 is not delivered again

	var mu sync.Mutex
	var ending atomic.Bool
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Appendf(nil, `{"business":"%d-%d-%d","status":"Active"}`, round, s, n)
				report, err := sender.Deliver(ctx, url, body)
				if !assert.NoError(t, err) {
					return
				}
				attempt := report.Attempts[0]
				switch {
				case attempt.Err == nil:
					id := (&middleware.Delivery{Sender: sender.Contract.Sender, Body: body}).ID()
					mu.Lock()
					got.acknowledged[id] = true
					mu.Unlock()
				case attempt.Status == http.StatusServiceUnavailable:
					mu.Lock()
					got.refused++
					mu.Unlock()
				default:
					assert.Zero(t, attempt.Status, report)
					assert.True(t, ending.Load(), "before SIGTERM: %v", report)
					return
				}
			}
		})
	}
	time.Sleep(rand.N(500 * time.Millisecond))
	ending.Store(true)
	assert.NoError(t, end())
	wg.Wait()
}
