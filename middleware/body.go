package middleware

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	defaultMaxBody = 1 << 20

	// defaultBodyTime is how long a body may take to arrive where the
	// contract has no deadline.
	defaultBodyTime = 10 * time.Second
)

// Sizes of the pieces that a body is read into. Memory is taken as bytes
// arrive, never because a Content-Length promises some: at any time it is at
// most what has arrived, rounded up to the piece that is being filled.
const (
	firstPiece = 4 << 10
	nextPiece  = 16 << 10
)

var (
	firstPieces = sync.Pool{New: func() any { return new([firstPiece]byte) }}
	nextPieces  = sync.Pool{New: func() any { return new([nextPiece]byte) }}
)

// readAll reads r to its end and returns what it read in a slice of its own.
// It returns an error if that is more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	first := firstPieces.Get().(*[firstPiece]byte)
	defer firstPieces.Put(first)
	n, err := fill(r, first[:])
	if err == io.EOF && int64(n) <= limit {
		return append(make([]byte, 0, n), first[:n]...), nil
	}
	if err != nil && err != io.EOF {
		return nil, err
	}

	var pieces []*[nextPiece]byte
	defer func() {
		for _, p := range pieces {
			nextPieces.Put(p)
		}
	}()
	total, last := n, 0
	for err == nil && int64(total) <= limit {
		piece := nextPieces.Get().(*[nextPiece]byte)
		pieces = append(pieces, piece)
		last, err = fill(r, piece[:])
		total += last
	}
	switch {
	case int64(total) > limit:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	case err != io.EOF:
		return nil, err
	}
	body := make([]byte, 0, total)
	body = append(body, first[:n]...)
	for i, piece := range pieces {
		if i < len(pieces)-1 {
			body = append(body, piece[:]...)
		} else {
			body = append(body, piece[:last]...)
		}
	}
	return body, nil
}

// fill reads until buf is full or r fails. Unlike io.ReadFull it returns r's
// own error, io.EOF among them, however much it has read.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// bodyError sorts what can go wrong while a body is read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case errors.As(err, &tooLarge):
		return fmt.Errorf("%w: it has more than the %d bytes that an http.MaxBytesReader before the Guard allows", ErrTooLarge, tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTooSlow, os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("%w: %w", ErrCutOff, err)
}
