package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// fetched has keys behind an HTTPS URL, as a JSON object:
//
//	{"current": "MIIBIjANBgkq…", "previous": "MIIBIjANBgkq…"}
//
// previous is there during a rotation only. Whoever can answer for that URL
// decides whose deliveries are accepted, so TLS is not optional and its
// certificate is always verified.
type fetched struct {
	client *http.Client
	url    string
	token  string // for Authorization: Bearer; may be ""

	etag  string // of what was fetched last
	texts [][]byte
}

// newFetched returns a source for address. transport is usually nil; tests give
// one that trusts their server.
func newFetched(address, token string, transport *http.Transport) (*fetched, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		// Not what it is: a token or a key may be in it.
		return nil, errors.New("not an absolute https URL without a user name")
	}
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &fetched{
		url: u.String(), token: token,
		client: &http.Client{
			Transport:     transport,
			Timeout:       10 * time.Second, // the answer's body included
			CheckRedirect: onlyHTTPS,
		},
	}, nil
}

var errRedirect = errors.New("redirected to a URL that is not https, or too often")

func onlyHTTPS(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" || len(via) >= 3 {
		return errRedirect
	}
	return nil
}

func (f *fetched) Load(ctx context.Context) ([][]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, errors.New("no request can be made of the URL")
	}
	req.Header.Set("Accept", "application/json")
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token) // net/http does not pass it on to another host
	}
	if f.etag != "" {
		req.Header.Set("If-None-Match", f.etag)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && f.etag != "":
		return f.texts, nil
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("answered with status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxText+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(body) > maxText:
		return nil, fmt.Errorf("answered with more than %d bytes", maxText)
	}
	var keys struct{ Current, Previous string }
	if json.Unmarshal(body, &keys) != nil || keys.Current == "" {
		// Not the decoder's error, which may quote what it read.
		return nil, errors.New(`answered with something else than {"current": "…", "previous": "…"}`)
	}
	texts := [][]byte{[]byte(keys.Current)}
	if keys.Previous != "" {
		texts = append(texts, []byte(keys.Previous))
	}
	// Also if they turn out to be no good keys: 304 then says that they are
	// the same no good ones.
	f.etag, f.texts = res.Header.Get("ETag"), texts
	return texts, nil
}

// plain returns err without the URL, which may have a token in it, and without
// the addresses, so that the same failure reads the same each time.
func plain(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		if urlErr.Timeout() {
			return errors.New("no answer in time")
		}
		err = urlErr.Err
	}
	if certErr, ok := errors.AsType[x509.CertificateInvalidError](err); ok && certErr.Reason == x509.Expired {
		return errors.New("the certificate has expired or is not valid yet") // the original says what time it is
	}
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		err = opErr.Err
	}
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New("the host's address is not found: " + dnsErr.Err)
	}
	return err
}
