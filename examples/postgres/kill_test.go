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
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

const (
	asProgram = "HOOKTRUST_TEST_AS_PROGRAM" // makes the test's binary the program:
	impatient = "impatient"                 // it misses a worker that has died soon
	asItIs    = "as it is"                  // with the options' defaults

	senders = 8 // that deliver at one time
)

// slowWork takes a while, so that a kill finds some of it half done.
func slowWork(ctx context.Context, d *middleware.Delivery) error {
	time.Sleep(rand.N(20 * time.Millisecond))
	return work(ctx, d)
}

// rounds returns how many there are to be: HOOKTRUST_ROUNDS, or few.
func rounds(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("HOOKTRUST_ROUNDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "HOOKTRUST_ROUNDS")
	require.Positive(t, n, "HOOKTRUST_ROUNDS")
	return n
}

// programs runs the program again and again, one at a time, on one database.
type programs struct {
	ctx      context.Context
	how      string // impatient or asItIs
	database string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the program has closed its output
	url      atomic.Pointer[string]

	mu     sync.Mutex
	worked map[string]int // IDs, how often, over all programs
	text   strings.Builder
}

var workedOn = regexp.MustCompile(`msg="worked on" id=([0-9a-f]{64})`)

// start runs the program and returns when it listens.
func (p *programs) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p.cmd = exec.CommandContext(p.ctx, self)
	p.cmd.Env = append(os.Environ(), asProgram+"="+p.how, "DATABASE_URL="+p.database, "HAPTIK_SECRET="+secret, "ADDR=127.0.0.1:0",
		"GORACE=atexit_sleep_ms=0") // the race detector's default is a second
	output, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	listening := make(chan string, 1)
	ended := make(chan struct{})
	p.ended = ended
	go func() { // until the program closes its output, which is before Wait
		defer close(ended)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			line := lines.Text()
			if _, rest, ok := strings.Cut(line, "msg=listening addr="); ok {
				addr, _, _ := strings.Cut(rest, " ")
				listening <- addr
			}
			p.mu.Lock()
			if match := workedOn.FindStringSubmatch(line); match != nil {
				p.worked[match[1]]++
			} else {
				fmt.Fprintln(&p.text, line)
			}
			p.mu.Unlock()
		}
	}()
	select {
	case addr := <-listening:
		url := "http://" + addr + path
		p.url.Store(&url)
	case <-ended:
		require.FailNow(t, "the program ended", "%v\n%s", p.cmd.Wait(), p.tail())
	}
}

// end sends the program s and returns how it ended.
func (p *programs) end(t *testing.T, s os.Signal) error {
	t.Helper()
	assert.NoError(t, p.cmd.Process.Signal(s))
	<-p.ended
	return p.cmd.Wait()
}

// tail returns the end of what the programs have logged.
func (p *programs) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.text.String()
	return text[max(0, len(text)-4000):]
}

// load delivers to whichever program runs. A delivery that is not acknowledged
// is delivered again until it is.
type load struct {
	wg      sync.WaitGroup
	ending  atomic.Bool
	acked   atomic.Int64
	refused atomic.Int64 // answered 503
	resent  atomic.Int64

	mu           sync.Mutex
	acknowledged map[string]bool // IDs
}

func newLoad(t *testing.T, p *programs) *load {
	l := &load{acknowledged: map[string]bool{}}
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	t.Cleanup(transport.CloseIdleConnections)
	sender := haptik(secret)
	sender.Client = &http.Client{Transport: transport}
	sender.Contract.Retries = nil // in deliver, to a program that may have another address
	for s := range senders {
		l.wg.Go(func() {
			for n := 0; !l.ending.Load(); n++ {
				body := fmt.Appendf(nil, `{"event_name":"kill","data":{"conversation_no":"%d-%d"}}`, s, n)
				if !l.deliver(t, p, sender.Deliver, body) {
					return
				}
			}
		})
	}
	return l
}

func (l *load) deliver(t *testing.T, p *programs, deliver func(context.Context, string, []byte) (*hooktest.Report, error), body []byte) bool {
	id := (&middleware.Delivery{Sender: "haptik", Body: body}).ID()
	for first := true; p.ctx.Err() == nil; first = false {
		if !first {
			l.resent.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
		report, err := deliver(p.ctx, *p.url.Load(), body)
		if err != nil {
			return assert.ErrorIs(t, err, p.ctx.Err())
		}
		attempt := report.Attempts[0]
		switch {
		case attempt.Err == nil:
			l.mu.Lock()
			l.acknowledged[id] = true
			l.mu.Unlock()
			l.acked.Add(1)
			return true
		case attempt.Status == http.StatusServiceUnavailable:
			l.refused.Add(1)
		default:
			// No answer: the program is gone.
			assert.Zero(t, attempt.Status, report)
		}
	}
	return false
}

// untilAMoment waits for an acknowledged delivery and then for a random time.
func (l *load) untilAMoment(t *testing.T) {
	t.Helper()
	acked := l.acked.Load()
	require.Eventually(t, func() bool { return l.acked.Load() > acked }, 2*soon, time.Millisecond, "no delivery acknowledged")
	time.Sleep(rand.N(500 * time.Millisecond))
}

// end lets every delivery that was begun be acknowledged.
func (l *load) end() {
	l.ending.Store(true)
	l.wg.Wait()
}

// check waits until all that is stored has been worked on, ends the program
// and looks for what was acknowledged and is not there.
func (l *load) check(t *testing.T, p *programs, what string) {
	t.Helper()
	pool := newPool(t, p.database)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		counts := jobs(t, pool)
		assert.Len(c, counts, 1, "%v", counts)
		assert.Positive(c, counts["completed"])
	}, 90*time.Second, 100*time.Millisecond, "not all was worked on")
	require.NoError(t, p.end(t, syscall.SIGTERM), p.tail())

	stored := storedIDs(t, pool)
	var lost, unworked, again int
	for id := range l.acknowledged {
		switch {
		case stored[id] == 0:
			lost++
		case p.worked[id] == 0:
			unworked++
		}
	}
	for id, rows := range stored {
		assert.Equal(t, 1, rows, "rows of delivery %s", id)
		again += max(p.worked[id]-1, 0)
	}
	t.Logf("%s: %d deliveries acknowledged, %d answered 503, sent again %d times; stored %d; lost %d, acknowledged and not worked on %d, worked on more than once %d",
		what, len(l.acknowledged), l.refused.Load(), l.resent.Load(), len(stored), lost, unworked, again)
	assert.Zero(t, lost)
	assert.Zero(t, unworked)
	assert.Positive(t, l.acked.Load())
	assert.NotContains(t, p.text.String(), secret)
}

// storedIDs returns how many rows each delivery has.
func storedIDs(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT args->>'id' FROM river_job")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	stored := make(map[string]int, len(ids))
	for _, id := range ids {
		stored[id]++
	}
	return stored
}

func newPrograms(t *testing.T, how string, n int) *programs {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(n)*10*time.Second)
	p := &programs{ctx: ctx, how: how, database: newDatabase(t), worked: map[string]int{}}
	t.Cleanup(func() {
		cancel() // which kills the program if it still runs
		if p.ended != nil {
			<-p.ended
			_ = p.cmd.Wait()
		}
	})
	return p
}

// TestKillReceiver kills the program again and again while deliveries arrive.
func TestKillReceiver(t *testing.T) {
	t.Parallel()
	n := rounds(t, 5)
	p := newPrograms(t, impatient, n)
	p.start(t)
	l := newLoad(t, p)
	for range n {
		l.untilAMoment(t)
		require.Error(t, p.end(t, syscall.SIGKILL))
		p.start(t)
	}
	l.end()
	l.check(t, p, fmt.Sprintf("%d times kill -9 of the receiver", n))
}

// TestSIGTERM ends the program while deliveries arrive: what it works on is
// done, and nothing of it twice.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	const n = 3
	p := newPrograms(t, asItIs, n)
	p.start(t)
	l := newLoad(t, p)
	pool := newPool(t, p.database)
	for range n {
		l.untilAMoment(t)
		require.NoError(t, p.end(t, syscall.SIGTERM), p.tail())
		assert.Zero(t, jobs(t, pool)["running"], "after the end")
		p.start(t)
	}
	l.end()
	l.check(t, p, fmt.Sprintf("%d times SIGTERM", n))
	for id, times := range p.worked {
		assert.Equal(t, 1, times, "delivery %s", id)
	}
}

// TestKillServer kills PostgreSQL while deliveries arrive, and starts it again
// on the same folder. It is not parallel, because the other tests use the same
// server: those that are parallel wait for it.
func TestKillServer(t *testing.T) {
	n := min(rounds(t, 3), 20)
	p := newPrograms(t, impatient, n)
	p.start(t)
	l := newLoad(t, p)
	for round := range n {
		l.untilAMoment(t)
		killServer(t)
		acked := l.acked.Load()
		refused := l.refused.Load()
		require.Eventually(t, func() bool { return l.refused.Load() > refused+senders }, soon, time.Millisecond, "round %d: no 503", round)
		// What was committed before the kill may have been counted after it.
		assert.LessOrEqual(t, l.acked.Load(), acked+senders, "round %d: acknowledged without a server", round)
		startServer(t)
	}
	l.end()
	l.check(t, p, fmt.Sprintf("%d times kill -9 of the server", n))
}

func TestWithPostgres(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signal os.Signal // nil: the command ends by itself
		want   int
	}{
		"command fails": {nil, 3},
		"SIGTERM":       {syscall.SIGTERM, 143},
		"SIGINT":        {syscall.SIGINT, 130},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := `echo "$HOOKTRUST_POSTGRES_DATA"; head -1 "$HOOKTRUST_POSTGRES_DATA/postmaster.pid"; `
			if test.signal == nil {
				command += "exit 3"
			} else {
				command += "exec sleep 60"
			}
			cmd := exec.CommandContext(ctx, "./with-postgres", "sh", "-c", command)
			output, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			reader := bufio.NewReader(output)
			data, err := reader.ReadString('\n')
			require.NoError(t, err)
			pid, err := reader.ReadString('\n')
			require.NoError(t, err)
			if test.signal != nil {
				require.NoError(t, cmd.Process.Signal(test.signal))
			}
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &exit)
			assert.Equal(t, test.want, exit.ExitCode())
			assert.NoDirExists(t, filepath.Dir(strings.TrimSpace(data)))
			server, err := strconv.Atoi(strings.TrimSpace(pid))
			require.NoError(t, err)
			assert.False(t, runs(server), "the server is stopped")
		})
	}
}

// killServer kills the server of HOOKTRUST_POSTGRES and all of its processes.
func killServer(t *testing.T) {
	t.Helper()
	file := filepath.Join(os.Getenv("HOOKTRUST_POSTGRES_DATA"), "postmaster.pid")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	require.NoError(t, err)
	pids := append([]int{postmaster}, children(t, postmaster)...) // the postmaster first, or it starts them again
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			require.ErrorIs(t, err, syscall.ESRCH)
		}
	}
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !runs(pid) }, soon, time.Millisecond, "process %d lives on", pid)
	}
	// Where nothing waits for orphans, as in some containers, the next
	// postmaster would take this one for alive.
	require.NoError(t, os.Remove(file))
}

func startServer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, os.Getenv("HOOKTRUST_POSTGRES_START")).CombinedOutput()
	require.NoError(t, err, string(output))
}

// children returns the processes whose parent is pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	require.NotEmpty(t, files, "this test needs /proc")
	var found []int
	for _, file := range files {
		if _, parent, err := processState(file); err == nil && parent == pid {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(t, err)
			found = append(found, child)
		}
	}
	require.NotEmpty(t, found, "the server's processes")
	return found
}

// runs reports whether pid is alive, and not just not waited for.
func runs(pid int) bool {
	state, _, err := processState(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && state != "Z" && state != "X"
}

// processState reads /proc/PID/stat: "PID (name) state parent …".
func processState(file string) (state string, parent int, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0, errors.New("unknown format")
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err
}
