package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	workedOn  = "HOOKTRUST_TEST_WORKED_ON"  // the file to which it adds the ID of each delivery that was worked on
)

// quick are options under which attempts fail now and then, and none is the
// last.
func quick() QueueOptions {
	return QueueOptions{Attempts: 1000, AttemptTime: time.Second, Backoff: func(int) time.Duration { return rand.N(100 * time.Millisecond) }}
}

// recordingProgram is the program with work that a test can look at, even if
// the program is killed.
func recordingProgram() int {
	file, err := os.OpenFile(os.Getenv(workedOn), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	record := func(_ context.Context, d *middleware.Delivery) error {
		time.Sleep(rand.N(20 * time.Millisecond))
		if rand.N(50) == 0 {
			return errAway
		}
		_, err := file.WriteString(d.ID() + "\n")
		return err
	}
	return program(os.Args[1:], record, quick())
}

// rounds returns how often a test ends the program.
func rounds(t *testing.T) int {
	text := os.Getenv("HOOKTRUST_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "HOOKTRUST_ROUNDS")
	require.Positive(t, n, "HOOKTRUST_ROUNDS")
	return n
}

// child is the program in a process of its own.
type child struct {
	cmd  *exec.Cmd
	url  string
	done chan struct{} // closed when its output has ended
	text strings.Builder
}

// childCommand returns the command for the program, which is killed when ctx
// ends.
func childCommand(ctx context.Context, t *testing.T, record string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", workedOn+"="+record, "HAPTIK_SECRET="+secret)
	return cmd
}

// startCommand starts the program and waits until it listens.
func startCommand(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{cmd: cmd, done: make(chan struct{})}
	output, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	listening := make(chan string, 10)
	go func() {
		defer close(c.done)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if c.text.Len() < 1<<20 {
				fmt.Fprintln(&c.text, lines.Text())
			}
			if _, rest, ok := strings.Cut(lines.Text(), "msg=listening addr="); ok {
				addr, _, _ := strings.Cut(rest, " ")
				listening <- addr
			}
		}
		_, _ = io.Copy(io.Discard, output) // a line too long for the Scanner
	}()
	select {
	case addr := <-listening:
		c.url = "http://" + addr + path
	case <-c.done:
		_ = cmd.Wait()
		require.Fail(t, "the program has ended", c.text.String())
	}
	return c
}

// end sends a signal and waits for the end.
func (c *child) end(t *testing.T, signal os.Signal) error {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(signal))
	<-c.done
	return c.cmd.Wait()
}

// load is senders that deliver, again and again.
type load struct {
	prefix string
	mu     sync.Mutex

	acknowledged map[string]bool // IDs answered 200
	statuses     map[int]int     // how often; 0: no answer
	pending      []string        // bodies not acknowledged yet: delivered again, as a sender does
	made         int
}

func newLoad(prefix string) *load {
	return &load{prefix: prefix, acknowledged: make(map[string]bool), statuses: make(map[int]int)}
}

func (l *load) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.pending); n > 0 && rand.N(2) == 0 {
		b := l.pending[n-1]
		l.pending = l.pending[:n-1]
		return b
	}
	l.made++
	return body("%s %d", l.prefix, l.made)
}

func (l *load) answered(b string, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	if status == http.StatusOK {
		l.acknowledged[delivery(b).ID()] = true
		return
	}
	l.pending = append(l.pending, b)
}

// count returns how many deliveries were acknowledged and how many answers had
// the status.
func (l *load) count(status int) (acknowledged, answers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged), l.statuses[status]
}

// run delivers from so many senders at one time until ctx ends or the receiver
// has gone.
func (l *load) run(ctx context.Context, t *testing.T, url string, senders int, gone *atomic.Bool) {
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	defer transport.CloseIdleConnections()
	sender := haptik()
	sender.Client = &http.Client{Transport: transport}
	sender.Contract.Retries = nil
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for ctx.Err() == nil {
				b := l.next()
				report, err := sender.Deliver(t.Context(), url, []byte(b))
				if !assert.NoError(t, err) {
					return
				}
				status := report.Attempts[0].Status
				if status == http.StatusOK && report.Attempts[0].Err != nil {
					status = 0 // cut off
				}
				l.answered(b, status)
				if status == 0 {
					assert.True(t, gone.Load(), "no answer: %v", report)
					return
				}
			}
		})
	}
	wg.Wait()
}

// recorded returns how often each ID was worked on.
func recorded(t *testing.T, file string) *counter {
	t.Helper()
	data, err := os.ReadFile(file)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	c := newCounter()
	for line := range strings.Lines(string(data)) {
		c.times[strings.TrimSuffix(line, "\n")]++
	}
	return c
}

// TestKill kills the program at random moments while deliveries arrive, starts
// it again on the same folder, and looks for one that was acknowledged and is
// never worked on. Every second round remembers deliveries in the Store too.
func TestKill(t *testing.T) {
	t.Parallel()
	n := rounds(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(n)*10*time.Second)
	defer cancel()
	dir := t.TempDir()
	record := filepath.Join(dir, "worked on")
	args := []string{"-dir", filepath.Join(dir, "data"), "-workers", "32"}
	load := newLoad("kill")
	found, duringStart := make(map[string]bool), 0 // what a restart had to find: acknowledged and not worked on
	for round := range n {
		withStore := "-store=" + strconv.FormatBool(round%2 == 1)
		c := startCommand(t, childCommand(ctx, t, record, append(args, withStore)...))
		var gone atomic.Bool
		over := make(chan struct{})
		go func() {
			defer close(over)
			load.run(ctx, t, c.url, 16, &gone)
		}()
		time.Sleep(rand.N(500 * time.Millisecond))
		gone.Store(true)
		require.Error(t, c.end(t, syscall.SIGKILL))
		<-over
		worked := recorded(t, record)
		for id := range load.acknowledged {
			if worked.times[id] == 0 {
				found[id] = true
			}
		}
		assert.NotContains(t, c.text.String(), secret)
		if round%5 == 4 { // and once while it starts, with a backlog
			cmd := childCommand(ctx, t, record, args...)
			require.NoError(t, cmd.Start())
			time.Sleep(rand.N(100 * time.Millisecond))
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			duringStart++
		}
	}

	c := startCommand(t, childCommand(ctx, t, record, args...))
	end := time.Now().Add(time.Minute)
	for recorded(t, record).missing(load.acknowledged) > 0 && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	require.NoError(t, c.end(t, syscall.SIGTERM), c.text.String())
	worked := recorded(t, record)
	lost := worked.missing(load.acknowledged)
	different, repeated := worked.of()
	t.Logf("%d times kill -9 under load, %d more while starting: %d deliveries made, %d acknowledged, %d answered 503, %d without an answer; "+
		"acknowledged and not worked on at a kill, so found after a restart: %d; worked on: %d, and %d times more than once; acknowledged and lost: %d",
		n, duringStart, load.made, len(load.acknowledged), load.statuses[503], load.statuses[0], len(found), different, repeated, lost)
	assert.Zero(t, lost)
	assert.Positive(t, len(found))
	assert.Positive(t, len(load.acknowledged))
	for status := range load.statuses {
		assert.Contains(t, []int{0, 200, 503}, status)
	}

	js := startJetStream(t, filepath.Join(dir, "data"))
	assert.Zero(t, stored(t, js, "HOOKS_DEAD"))
}
