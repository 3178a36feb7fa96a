package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const onSmallDisk = "HOOKTRUST_TEST_ON_SMALL_DISK" // the folder to mount it on

// smallDiskProgram mounts a small disk in its own namespace, which ends with
// it, and runs the program on it twice: only receiving, with a disk that
// SIGUSR1 fills, which must end the program; and then, with room on it again,
// working too.
func smallDiskProgram() int {
	dir := os.Getenv(onSmallDisk)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		return 77
	}
	if os.Getenv(workedOn) == "" { // only asked whether it can
		return 0
	}
	filler := filepath.Join(dir, "filler")
	fill := make(chan os.Signal, 1)
	signal.Notify(fill, syscall.SIGUSR1)
	go func() {
		<-fill
		f, err := os.Create(filler)
		if err != nil {
			panic(err)
		}
		for size := 1 << 20; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
		if err := f.Close(); err != nil { // or its space is not free once it is removed
			panic(err)
		}
		if err := os.WriteFile(os.Getenv(workedOn)+".full", nil, 0o600); err != nil {
			panic(err)
		}
	}()
	os.Args = append(os.Args, "-dir", filepath.Join(dir, "data"), "-max-bytes", "8388608")
	args := os.Args
	os.Args = append(args, "-workers", "0")
	if status := recordingProgram(); status != 1 {
		return 78
	}
	if err := os.Remove(filler); err != nil {
		panic(err)
	}
	os.Args = args
	return recordingProgram()
}

func init() { otherProgram = smallDiskProgram; otherProgramVariable = onSmallDisk }

// smallDisk returns the command for smallDiskProgram.
func smallDisk(ctx context.Context, t *testing.T, record string) *exec.Cmd {
	t.Helper()
	cmd := childCommand(ctx, t, record)
	cmd.Env = append(cmd.Env, onSmallDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

// TestFullDisk fills the disk under load: what does not fit is answered 503,
// never 200, and what was answered 200 is worked on when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := smallDisk(ctx, t, "").Run(); err != nil {
		t.Skipf("no user namespace with a small disk of its own here (%v); TestFullQueue fills the queue", err)
	}
	record := filepath.Join(t.TempDir(), "worked on")
	c := startCommand(t, smallDisk(ctx, t, record))
	load := newLoad("full " + strings.Repeat(".", 4000))
	t.Cleanup(func() {
		if t.Failed() {
			_ = c.cmd.Process.Kill()
			<-c.done
			t.Logf("%v\n%s", load.statuses, c.text.String())
		}
	})
	var gone atomic.Bool
	over := make(chan struct{})
	go func() {
		defer close(over)
		load.run(ctx, t, c.url, 4, &gone)
	}()
	eventually(t, func() bool { n, _ := load.count(0); return n > 50 }, 20*time.Second, "acknowledged while there is room")
	gone.Store(true)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGUSR1))
	eventually(t, func() bool { _, err := os.Stat(record + ".full"); return err == nil }, 20*time.Second, "the disk is full")
	full, _ := load.count(0)
	<-over // the program ends, and starts again
	after, refused := load.count(http.StatusServiceUnavailable)
	// 4 senders; what was under way when the last byte was taken may have found room.
	assert.LessOrEqual(t, after, full+4, "acknowledged on a full disk")
	assert.GreaterOrEqual(t, refused, 4)
	for status := range load.statuses {
		assert.Contains(t, []int{0, 200, 503}, status)
	}

	end := time.Now().Add(30 * time.Second)
	for recorded(t, record).missing(load.acknowledged) > 0 && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	lost := recorded(t, record).missing(load.acknowledged)
	require.NoError(t, c.end(t, syscall.SIGTERM), c.text.String())
	assert.Zero(t, lost)
	t.Logf("%d acknowledged, then the disk was full: %d more acknowledged, %d answered 503; lost %d", full, after-full, refused, lost)
}
