package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// source is where a sender's keys are kept.
//
// All keys that are to be accepted stand in the source: the current one and,
// during a rotation, the previous one. Nothing here remembers a key that the
// source no longer has. That would outlive a key that was withdrawn because it
// had leaked, and a restart would forget it in the midst of a rotation.
type source interface {
	// Load returns the keys as they are written, the current one first. Its
	// error contains nothing of them.
	Load(ctx context.Context) ([][]byte, error)
}

// maxText is more than any key takes as text, in bytes.
const maxText = 64 << 10

// environment has keys in environment variables. Nobody can change those from
// outside while the program runs: use files or a URL for keys that change.
type environment struct {
	getenv            func(string) string
	current, previous string // names of variables
}

func (e *environment) Load(context.Context) ([][]byte, error) {
	current, previous := e.getenv(e.current), e.getenv(e.previous)
	if current == "" {
		return nil, fmt.Errorf("%s is not set", e.current)
	}
	if previous == "" {
		return [][]byte{[]byte(current)}, nil
	}
	return [][]byte{[]byte(current), []byte(previous)}, nil
}

// files has each key in a file of its own.
//
// It reads them at every look and compares what they say: a time of change and
// a size can stay the same when the content does not. A few kilobytes every few
// seconds cost nothing. Kubernetes exchanges the folder behind its symbolic
// links, which a reader by path follows by itself; a watch on the file would go
// on watching the old one, and on network file systems there is none.
type files struct {
	current, previous string // paths; previous may be "", or of no file as long as there is no previous key

	// settle is for how long a new content must stay as it is, so that half of
	// a key, or a new key beside an old one, is not taken for the change. To be
	// sure, write another file and rename it: that is never seen half done.
	settle time.Duration

	last [][]byte // what Load has returned
}

// settleTries is how often a file may change while Load looks.
const settleTries = 10

func (f *files) Load(ctx context.Context) ([][]byte, error) {
	texts, err := f.read()
	if err != nil {
		return nil, err
	}
	if f.last != nil && !equal(texts, f.last) {
		for try := 0; ; try++ {
			if try == settleTries {
				return nil, errors.New("a file with a key keeps changing")
			}
			select {
			case <-time.After(f.settle):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			again, err := f.read()
			if err != nil {
				return nil, err
			}
			if equal(texts, again) {
				break
			}
			texts = again
		}
	}
	f.last = texts
	return texts, nil
}

func equal(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func (f *files) read() ([][]byte, error) {
	current, err := readFile(f.current)
	if err != nil {
		return nil, fmt.Errorf("the file with the current key: %w", err)
	}
	if f.previous == "" {
		return [][]byte{current}, nil
	}
	previous, err := readFile(f.previous)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return [][]byte{current}, nil
	case err != nil:
		return nil, fmt.Errorf("the file with the previous key: %w", err)
	case len(bytes.TrimSpace(previous)) == 0:
		return [][]byte{current}, nil // emptied when the rotation was over
	}
	return [][]byte{current, previous}, nil
}

// readFile reads a regular file, so that nothing waits for a pipe. Its errors
// leave out the path: somebody may have put the key itself there.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxText+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(text) > maxText:
		return nil, fmt.Errorf("more than %d bytes", maxText)
	}
	return text, nil
}

func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
