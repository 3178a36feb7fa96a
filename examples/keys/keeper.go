package main

import (
	"bytes"
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/rsasig"
)

// keeper keeps a Verifier's keys as its source has them. What fails leaves the
// keys as they are, and is logged once: when it begins, when the reason
// becomes another, and when it is over.
type keeper struct {
	sender  string // for the log
	source  source
	apply   func(texts [][]byte) (inUse []string, err error) // nil inUse: nothing has changed
	every   time.Duration                                    // between looks
	slowest time.Duration                                    // between looks while they fail
	log     *slog.Logger

	failing  string // the reason, as logged; "" if all is well
	since    time.Time
	failures int
}

// start looks for the first time. Without keys there is nothing to run with.
func (k *keeper) start(ctx context.Context) error {
	texts, err := k.source.Load(ctx)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", k.sender, err)
	}
	inUse, err := k.apply(texts)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", k.sender, err)
	}
	k.tell(inUse)
	return nil
}

// run looks again and again until ctx is over, and at once when asked, such as
// by SIGHUP.
func (k *keeper) run(ctx context.Context, asked <-chan os.Signal) {
	for {
		timer := time.NewTimer(k.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-asked:
			timer.Stop()
			k.look(ctx, true)
		case <-timer.C:
			k.look(ctx, false)
		}
	}
}

// pause returns the time until the next look: longer while looks fail, so that
// a source in trouble is left alone, and never the same for all receivers,
// which would come together for ever if they were started together.
func (k *keeper) pause() time.Duration {
	d := k.every
	for range k.failures {
		if d >= k.slowest/2 {
			d = max(k.slowest, k.every)
			break
		}
		d *= 2
	}
	return d - d/10 + rand.N(d/5+1) // a tenth more or less
}

// look brings the keys up to date. Somebody who has asked is always answered.
func (k *keeper) look(ctx context.Context, asked bool) {
	texts, err := k.source.Load(ctx)
	var inUse []string
	if err == nil {
		inUse, err = k.apply(texts)
	}
	if ctx.Err() != nil {
		return // stopped while it looked
	}
	if err != nil {
		if k.failures == 0 {
			k.since = time.Now()
		}
		k.failures++
		if reason := err.Error(); reason != k.failing || asked {
			k.failing = reason
			k.log.Warn("keys cannot be changed; the ones before stay in use", "sender", k.sender, "err", reason)
		}
		return
	}
	if k.failures > 0 {
		k.log.Info("keys can be read again", "sender", k.sender, "failed", k.failures, "after", time.Since(k.since))
		k.failures, k.failing = 0, ""
	}
	switch {
	case inUse != nil:
		k.tell(inUse)
	case asked:
		k.log.Info("keys have not changed", "sender", k.sender)
	}
}

// tell logs the keys in use by their index, the one that Delivery.Key has.
func (k *keeper) tell(inUse []string) {
	args := []any{"sender", k.sender}
	for i, what := range inUse {
		args = append(args, fmt.Sprintf("key%d", i), what)
	}
	k.log.Info("keys in use", args...)
}

// algorithm is what a keeper has to know of one.
type algorithm[K any] struct {
	parse func(text []byte) (K, error)
	id    func(K) ([]byte, error) // the same for the same key, however it is written; never logged
	show  func(K) (string, error) // for the log: nothing that helps anybody to forge or to guess
	set   func(...K) error        // SetKeys

	inUse [][]byte // ids
}

// apply sets the keys that are written in texts, unless they are in use. If one
// of them is no good, all stay as they were.
func (a *algorithm[K]) apply(texts [][]byte) ([]string, error) {
	var keys []K
	var ids [][]byte
	for i, text := range texts {
		key, err := a.parse(text)
		if err != nil {
			return nil, fmt.Errorf("the %s key: %w", place(i), err)
		}
		id, err := a.id(key)
		if err != nil {
			return nil, fmt.Errorf("the %s key: %w", place(i), err)
		}
		if index(ids, id) >= 0 {
			continue // the current key is also given as the previous one
		}
		keys, ids = append(keys, key), append(ids, id)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
	}
	if equal(ids, a.inUse) {
		return nil, nil
	}
	list := make([]string, len(keys))
	for i, key := range keys {
		what, err := a.show(key)
		if err != nil {
			return nil, err
		}
		switch was := index(a.inUse, ids[i]); was {
		case -1:
			list[i] = what + ", new"
		case i:
			list[i] = what + ", as before"
		default:
			list[i] = fmt.Sprintf("%s, was key %d", what, was)
		}
	}
	if err := a.set(keys...); err != nil {
		return nil, err
	}
	a.inUse = ids
	return list, nil
}

// place names a key by where it stands in its source.
func place(i int) string {
	if i == 0 {
		return "current"
	}
	return "previous"
}

func index(ids [][]byte, id []byte) int {
	return slices.IndexFunc(ids, func(other []byte) bool { return bytes.Equal(other, id) })
}

// setter returns a function that makes a Verifier the first time, which takes a
// key, and changes its keys from then on.
func setter[V interface{ SetKeys(...K) error }, K any](v *V, construct func(...K) (V, error)) func(...K) error {
	made := false
	return func(keys ...K) error {
		if made {
			return (*v).SetKeys(keys...)
		}
		first, err := construct(keys...)
		if err != nil {
			return err
		}
		*v, made = first, true
		return nil
	}
}

// keepHMAC starts k and returns a Verifier whose secrets it will keep.
//
// A secret has no fingerprint in the log. Whoever reads one can try secrets
// against it until one fits, as fast as they can hash and without anybody
// noticing, and a secret that people have chosen is found. A public key is no
// secret, and its fingerprint gives nothing away.
func keepHMAC(ctx context.Context, k *keeper, s hmac.Scheme) (v *hmac.Verifier, err error) {
	a := &algorithm[[]byte]{
		parse: parseSecret,
		id:    func(secret []byte) ([]byte, error) { return secret, nil },
		show:  func([]byte) (string, error) { return "secret", nil },
		set:   setter(&v, func(secrets ...[]byte) (*hmac.Verifier, error) { return hmac.New(s, secrets...) }),
	}
	k.apply = a.apply
	err = k.start(ctx)
	return v, err
}

// parseSecret takes off the line break with which editors end a file. A line
// break elsewhere means that the text is something else, such as two secrets.
func parseSecret(text []byte) ([]byte, error) {
	secret := bytes.TrimRight(text, "\r\n")
	if bytes.ContainsAny(secret, "\r\n") {
		return nil, errors.New("the secret has more than one line")
	}
	return secret, nil
}

// keepRSA starts k and returns a Verifier whose keys it will keep.
func keepRSA(ctx context.Context, k *keeper, s rsasig.Scheme) (v *rsasig.Verifier, err error) {
	a := &algorithm[*rsa.PublicKey]{
		parse: rsasig.ParsePublicKey,
		id:    func(key *rsa.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(key) },
		show: func(key *rsa.PublicKey) (string, error) {
			der, err := x509.MarshalPKIXPublicKey(key)
			return fmt.Sprintf("RSA %d bits %s", key.N.BitLen(), fingerprint(der)), err
		},
		set: setter(&v, func(keys ...*rsa.PublicKey) (*rsasig.Verifier, error) { return rsasig.New(s, keys...) }),
	}
	k.apply = a.apply
	err = k.start(ctx)
	return v, err
}

// keepDSA starts k and returns a Verifier whose keys it will keep.
func keepDSA(ctx context.Context, k *keeper, s dsasig.Scheme) (v *dsasig.Verifier, err error) {
	a := &algorithm[*dsa.PublicKey]{
		parse: dsasig.ParsePublicKey,
		id:    marshalDSA,
		show: func(key *dsa.PublicKey) (string, error) {
			der, err := marshalDSA(key)
			return fmt.Sprintf("DSA %d bits %s", key.P.BitLen(), fingerprint(der)), err
		},
		set: setter(&v, func(keys ...*dsa.PublicKey) (*dsasig.Verifier, error) { return dsasig.New(s, keys...) }),
	}
	k.apply = a.apply
	err = k.start(ctx)
	return v, err
}

// fingerprint is the beginning of what `openssl pkey -pubin -outform DER |
// sha256sum` prints.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// marshalDSA returns a SubjectPublicKeyInfo, as crypto/x509 does for other keys.
func marshalDSA(key *dsa.PublicKey) ([]byte, error) {
	type algorithm struct {
		OID        asn1.ObjectIdentifier
		Parameters struct{ P, Q, G *big.Int }
	}
	type info struct {
		Algorithm algorithm
		Key       asn1.BitString
	}
	y, err := asn1.Marshal(key.Y)
	if err != nil {
		return nil, err
	}
	spki := info{
		Algorithm: algorithm{OID: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}},
		Key:       asn1.BitString{Bytes: y, BitLength: 8 * len(y)},
	}
	spki.Algorithm.Parameters.P, spki.Algorithm.Parameters.Q, spki.Algorithm.Parameters.G = key.P, key.Q, key.G
	return asn1.Marshal(spki)
}
