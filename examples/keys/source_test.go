package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func load(t *testing.T, s source) []string {
	t.Helper()
	texts, err := s.Load(t.Context())
	require.NoError(t, err)
	var list []string
	for _, text := range texts {
		list = append(list, string(text))
	}
	return list
}

func TestEnvironment(t *testing.T) {
	env := make(map[string]string)
	e := &environment{getenv: func(name string) string { return env[name] }, current: "C", previous: "P"}
	_, err := e.Load(t.Context())
	require.ErrorContains(t, err, "C is not set")
	env["C"] = "c"
	assert.Equal(t, []string{"c"}, load(t, e))
	env["P"] = "p"
	assert.Equal(t, []string{"c", "p"}, load(t, e))
}

// TestHalfWrittenFile writes over a file in place, which is not how it should be
// done.
func TestHalfWrittenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		write := func(text string) { assert.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
		write("before")
		f := &files{current: path, settle: time.Second}
		assert.Equal(t, []string{"before"}, load(t, f))

		write("hal")
		go func() {
			time.Sleep(500 * time.Millisecond)
			write("half writ")
			time.Sleep(time.Second)
			write("half written")
		}()
		start := time.Now()
		assert.Equal(t, []string{"half written"}, load(t, f), "not the half of it")
		assert.Equal(t, 3*time.Second, time.Since(start))

		start = time.Now()
		assert.Equal(t, []string{"half written"}, load(t, f))
		assert.Zero(t, time.Since(start), "what has not changed is not waited for")
	})
}

func TestFileThatKeepsChanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
		f := &files{current: path, settle: time.Second}
		load(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			for ctx.Err() == nil {
				assert.NoError(t, os.WriteFile(path, []byte(time.Now().String()), 0o600))
				time.Sleep(300 * time.Millisecond)
			}
		})
		synctest.Wait()
		_, err := f.Load(t.Context())
		require.ErrorContains(t, err, "keeps changing")

		stopped, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		_, err = f.Load(stopped)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestKubernetesSecret exchanges the folder behind the links, as the kubelet
// does: current and previous are links to ..data/current and so on, and ..data
// is one to a folder that is replaced as a whole.
func TestKubernetesSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		swap := func(name, current, previous string) {
			t.Helper()
			folder := filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(folder, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "current"), []byte(current), 0o600))
			if previous != "" {
				require.NoError(t, os.WriteFile(filepath.Join(folder, "previous"), []byte(previous), 0o600))
			}
			old, _ := os.Readlink(filepath.Join(dir, "..data"))
			require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
			if old != "" {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, old)))
			}
		}
		for _, name := range []string{"current", "previous"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Skip("no symbolic links here:", err)
			}
		}
		f := &files{current: filepath.Join(dir, "current"), previous: filepath.Join(dir, "previous"), settle: time.Second}
		swap("..2026_01", "a", "")
		assert.Equal(t, []string{"a"}, load(t, f), "a link to nothing is no previous key")
		swap("..2026_02", "b", "a")
		assert.Equal(t, []string{"b", "a"}, load(t, f))
		swap("..2026_03", "b", "")
		assert.Equal(t, []string{"b"}, load(t, f))
	})
}

// TestSameTimeAndSize changes what neither of the two tells.
func TestSameTimeAndSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		f := &files{current: path, settle: time.Second}
		for _, text := range []string{"aaaa", "bbbb"} {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			require.NoError(t, os.Chtimes(path, at, at))
			assert.Equal(t, []string{text}, load(t, f))
		}
	})
}

func TestFilesThatAreNoKeys(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	require.NoError(t, os.WriteFile(good, []byte("good"), 0o600))
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, []byte(strings.Repeat("a", maxText+1)), 0o600))
	for name, f := range map[string]*files{
		"not there":        {current: filepath.Join(dir, "none")},
		"a folder":         {current: dir},
		"large":            {current: large},
		"previous, folder": {current: good, previous: dir},
		"previous, large":  {current: good, previous: large},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Load(t.Context())
			require.Error(t, err)
			assert.NotContains(t, err.Error(), dir, "the path may be a key that was put in the wrong place")
		})
	}
	_, err := (&files{current: filepath.Join(dir, "none")}).Load(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blank"), []byte(" \n"), 0o600))
	assert.Equal(t, []string{"good"}, load(t, &files{current: good, previous: filepath.Join(dir, "blank")}))
	assert.Equal(t, []string{"good"}, load(t, &files{current: good, previous: filepath.Join(dir, "none")}))
}
