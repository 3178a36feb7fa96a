package main

import (
	"bytes"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a sender signs with DSA and offers nothing else
	stdhmac "crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
)

var errRefused = errors.New("refused")

// stdlibRows compares hooktrust with what the standard library has.
func stdlibRows() ([]*row, error) {
	var all []*row
	for _, rows := range []func() ([]*row, error){hashRows, publicKeyRows, guardRows} {
		rows, err := rows()
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// hashRows shows what HMAC and the header cost: the bare hash of the same
// body is the least that any HMAC takes.
func hashRows() ([]*row, error) {
	var rows []*row
	for _, s := range []hmac.Scheme{hmac.Compliancely(), hmac.Haptik()} {
		name := "HMAC-" + strings.ReplaceAll(s.Hash.String(), "SHA-", "SHA")
		for _, size := range []int{1 << 10, 64 << 10} {
			ours, err := hmacVerify(s)
			if err != nil {
				return nil, err
			}
			body := bytes.Repeat(body, size/len(body))
			ours.name = "hooktrust"
			rows = append(rows, &row{
				what: fmt.Sprintf("%s Verify beside the bare hash, %d KiB", name, size>>10),
				ours: &side{name: ours.name, check: ours.check, loop: func(b *testing.B) error {
					header, err := ours.sign(secret, body)
					if err != nil {
						return err
					}
					for b.Loop() {
						if err := ours.verify(body, header); err != nil {
							return err
						}
					}
					return nil
				}},
				other: &side{name: "bare hash", loop: func(b *testing.B) error {
					h := s.Hash.New()
					var sum [sha256.Size]byte
					for b.Loop() {
						h.Reset()
						h.Write(body)
						h.Sum(sum[:0])
					}
					return nil
				}},
			})
		}
	}
	return rows, nil
}

// publicKeyRows gives the standard library the signature decoded, and the
// digest to compute.
func publicKeyRows() ([]*row, error) {
	all, err := deliveries()
	if err != nil {
		return nil, err
	}
	var rows []*row
	for _, d := range all.dsa {
		verify := func(body []byte) error {
			digest := sha256.Sum256(body)
			if !dsa.Verify(d.key, digest[:d.size[1]/8], d.r, d.s) {
				return errRefused
			}
			return nil
		}
		rows = append(rows, &row{fmt.Sprintf("%v Verify beside crypto/dsa", d), d.side(), bodySide("crypto/dsa", verify)})
	}
	rows = append(rows, &row{"RSA 2048 Verify beside crypto/rsa", all.rsa.side(), bodySide("crypto/rsa", func(body []byte) error {
		digest := sha256.Sum256(body)
		return rsa.VerifyPKCS1v15(all.rsa.key, crypto.SHA256, digest[:], all.rsa.sig)
	})})
	for _, d := range all.dsa {
		rows = append(rows, &row{what: fmt.Sprintf("loading a key of %v: its checks and tables", d), ours: &side{
			name: "dsasig.New",
			loop: func(b *testing.B) error {
				for b.Loop() {
					if _, err := dsasig.New(dsasig.ConvoKraft(), d.key); err != nil {
						return err
					}
				}
				return nil
			},
		}})
	}
	return rows, nil
}

// bodySide returns a side that verifies a signature which is fixed.
func bodySide(name string, verify func(body []byte) error) *side {
	return &side{
		name: name,
		check: func() error {
			if err := verify(body); err != nil {
				return fmt.Errorf("refuses a genuine delivery: %w", err)
			}
			tampered := bytes.Clone(body)
			tampered[len(tampered)/2] ^= 1
			if verify(tampered) == nil {
				return errors.New("accepts a tampered body")
			}
			return nil
		},
		loop: func(b *testing.B) error {
			for b.Loop() {
				if err := verify(body); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func guardRows() ([]*row, error) {
	s := hmac.Compliancely()
	without, err := newGuard(s, 0)
	if err != nil {
		return nil, err
	}
	with, err := newGuard(s, time.Hour)
	if err != nil {
		return nil, err
	}
	ours := receiver{name: "Guard", sign: signHMAC(s), receive: handler(without.Handler)}
	timed := receiver{name: "Guard with a deadline", sign: signHMAC(s), receive: handler(with.Handler)}
	plain := receiver{name: "by hand", sign: signHMAC(s), receive: handler(byHand)}
	bare := func(next http.Handler) http.Handler { return next }
	// TimeoutHandler writes a status each time. The server's writer takes one
	// and complains of the others, which takes longer than all the rest; so
	// TimeoutHandler has a writer that costs nothing.
	timeout := func(next http.Handler) http.Handler {
		h, w := http.TimeoutHandler(next, time.Hour, ""), nothing{make(http.Header)}
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) })
	}
	discard := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	return []*row{
		{"Guard beside io.ReadAll, hmac.New and hex", ours.side(), plain.side()},
		{
			"Guard's deadline beside http.TimeoutHandler, each without what it wraps",
			&side{name: timed.name, check: timed.check, loop: served(with.Handler), minus: served(without.Handler)},
			&side{name: "http.TimeoutHandler", loop: served(timeout), minus: served(bare)},
		},
		{
			"server with a Guard beside one that discards the body, a request on loopback",
			&side{name: "server with a Guard", check: ours.check, loop: loopback(without.Handler(nothing{}))},
			&side{name: "server", loop: loopback(discard)},
		},
		{
			"the same, with the Guard's deadline and with http.TimeoutHandler",
			&side{name: "server with a Guard and a deadline", check: timed.check, loop: loopback(with.Handler(nothing{}))},
			&side{name: "server with http.TimeoutHandler", loop: loopback(http.TimeoutHandler(discard, time.Hour, ""))},
		},
	}, nil
}

// byHand is what receivers do without a library.
func byHand(next http.Handler) http.Handler {
	key := []byte(secret)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		mac := stdhmac.New(sha256.New, key)
		mac.Write(body)
		got := strings.TrimPrefix(r.Header.Get("Compliancely-Signature"), "sha256=")
		want := hex.EncodeToString(mac.Sum(nil))
		if !stdhmac.Equal([]byte(got), []byte(want)) {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// served measures a wrapped handler that does nothing. The loop runs inside
// one request of a real HTTP/1.1 server, because a deadline depends on the
// server's ResponseWriter.
func served(wrap func(http.Handler) http.Handler) func(*testing.B) error {
	return func(b *testing.B) error {
		header, err := signHMAC(hmac.Compliancely())(secret, body)
		if err != nil {
			return err
		}
		n := 0
		h := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n++ }))
		over := make(chan error, 1)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
			r, rewind := request(body, header)
			r = r.WithContext(got.Context())
			for b.Loop() {
				rewind()
				h.ServeHTTP(w, r)
			}
			if n == b.N {
				over <- nil
			} else {
				over <- fmt.Errorf("the handler ran %d times for %d requests", n, b.N)
			}
		}))
		defer srv.Close()
		resp, err := srv.Client().Get(srv.URL)
		if err != nil {
			return err
		}
		return errors.Join(<-over, resp.Body.Close())
	}
}

// loopback measures a server with connections that are kept alive and more
// clients than processors.
func loopback(h http.Handler) func(*testing.B) error {
	return func(b *testing.B) error {
		header, err := signHMAC(hmac.Compliancely())(secret, body)
		if err != nil {
			return err
		}
		srv := httptest.NewServer(h)
		defer srv.Close()
		client := srv.Client()
		client.Transport.(*http.Transport).MaxIdleConnsPerHost = 100
		failed := make(chan error, 1)
		b.SetParallelism(8)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := post(client, srv.URL, header); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
			}
		})
		b.StopTimer()
		select {
		case err := <-failed:
			return err
		default:
			return nil
		}
	}
}

func post(client *http.Client, url string, header http.Header) error {
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}
