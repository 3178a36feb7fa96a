package hooktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// forgeries are the ways to deliver what the sender has not signed. what
// returns those of one kind for a body and its genuine signature; none if the
// sender's signatures do not allow the kind.
var forgeries = []struct {
	obligation
	make func(s *Sender, body []byte, signature string) ([]order, error)
	all  bool // for every body, not only the first
}{
	{
		obligation: obligation{
			name:   "tampered body",
			why:    "The signature is there so that nobody between the sender and you can change what it says.",
			change: "Verify the signature over all bytes of the body, and refuse with a 401 what does not verify.",
		},
		make: tampered,
		all:  true,
	},
	{
		obligation: obligation{
			name:   "re-encoded body",
			why:    "The sender signs bytes. A receiver that verifies other bytes than came lets an attacker choose between bodies, and refuses genuine ones that its encoder writes differently.",
			change: "Read the body once, verify those bytes before anything parses, trims or converts them, and hand the same bytes on.",
		},
		make: reencoded,
		all:  true,
	},
	{
		obligation: obligation{
			name:   "header missing",
			why:    "Whoever finds the URL can otherwise deliver anything.",
			change: "Refuse with a 401 when the signature header is not there. No setting should turn that off.",
		},
		make: func(_ *Sender, body []byte, _ string) ([]order, error) {
			return []order{{what: "a delivery without the signature header", body: body}}, nil
		},
	},
	{
		obligation: obligation{
			name:   "header empty",
			why:    "An empty header is as good as none, and comparing it with an empty or failed computation succeeds.",
			change: "Refuse an empty signature with a 401, and check that the secret or key is not empty when it is loaded.",
		},
		make: func(_ *Sender, body []byte, _ string) ([]order, error) {
			return []order{{what: "a delivery with an empty signature header", body: body, values: []string{""}}}, nil
		},
	},
	{
		obligation: obligation{
			name:   "header malformed",
			why:    "Anybody can send such a header. A panic or a 5xx hides attacks among your own faults and makes a real sender retry; a lenient parser accepts what was never signed.",
			change: "Decode the header strictly, handle the decoder's error, and answer it with the same 401 as a wrong signature.",
		},
		make: malformed,
	},
	{
		obligation: obligation{
			name:   "header truncated",
			why:    "A receiver that compares as much as it was sent can be guessed byte by byte.",
			change: "Check the signature's length, then compare all of it: crypto/hmac.Equal on the decoded bytes.",
		},
		make: truncated,
	},
	{
		obligation: obligation{
			name:   "header duplicated",
			why:    "With two headers, proxies, libraries and you may each look at another one. No genuine sender sends two.",
			change: "Look at all values (http.Header.Values, not Get) and refuse with a 401 unless there is exactly one.",
		},
		make: duplicated,
	},
	{
		obligation: obligation{
			name:   "header comma-joined",
			why:    "Proxies join two headers into one with a comma: it is the duplicated header again.",
			change: "Refuse a value with a comma in it, or any that is not exactly of a signature's length.",
		},
		make: commaJoined,
	},
	{
		obligation: obligation{
			name:   "signature of another body",
			why:    "A captured signature would otherwise fit every body.",
			change: "Compute the signature over the body of this request: not over an empty body that something else has already read, not over a constant.",
		},
		make: transplanted,
	},
	{
		obligation: obligation{
			name:   "signature altered",
			why:    "A receiver that compares a part of the signature makes the rest of it worthless.",
			change: "Compare all bytes of the signature: crypto/hmac.Equal, or the Verify function of the algorithm.",
		},
		make: altered,
	},
	{
		obligation: obligation{
			name:   "another key",
			why:    "Only the sender's key proves that the sender signed.",
			change: "Verify with the keys of this sender only, and check that none of them is empty or an example's.",
		},
		make: strange,
	},
}

// flips returns copies of body with one bit changed in each. Where body is
// JSON they are JSON too if that can be had, so that a receiver which does not
// verify cannot refuse them for their syntax.
func flips(body []byte) [][]byte {
	if len(body) == 0 {
		return nil
	}
	last := len(body) - 1
	return [][]byte{flip(body, 0, 1), flip(body, last/2, 1), flip(body, last, -1)}
}

// flip changes a bit at i or, in search of JSON, some way from it.
func flip(body []byte, i, step int) []byte {
	at := func(i int) []byte {
		b := bytes.Clone(body)
		b[i] ^= 1
		return b
	}
	if json.Valid(body) {
		for n := range 64 {
			if j := i + n*step; j >= 0 && j < len(body) {
				if b := at(j); json.Valid(b) {
					return b
				}
			}
		}
	}
	return at(i)
}

func tampered(_ *Sender, body []byte, signature string) ([]order, error) {
	var orders []order
	add := func(what string, b []byte) {
		orders = append(orders, order{what: "a delivery " + what, body: b, values: []string{signature}})
	}
	for _, b := range flips(body) {
		add("with one bit of the signed body changed", b)
	}
	if n := len(body); n > 0 {
		add("without the last byte of the signed body", body[:n-1])
		add("without the signed body", nil)
	}
	add("with a byte added to the signed body", append(bytes.Clone(body), '0'))
	return orders, nil
}

func reencoded(_ *Sender, body []byte, signature string) ([]order, error) {
	var orders []order
	add := func(what string, b []byte) {
		if !bytes.Equal(b, body) {
			orders = append(orders, order{what: "the signed body with " + what, body: b, values: []string{signature}})
		}
	}
	add("a line break added at its end", append(bytes.Clone(body), '\n'))
	add("a blank added before it", append([]byte{' '}, body...))
	add("a byte order mark added before it", append([]byte("\ufeff"), body...))
	add("its outer white space left out", bytes.TrimSpace(body))
	var indented, compact bytes.Buffer
	if json.Indent(&indented, body, "", "\t") == nil {
		add("its JSON indented", indented.Bytes())
	}
	if json.Compact(&compact, body) == nil {
		add("its JSON made compact", compact.Bytes())
	}
	return orders, nil
}

func malformed(_ *Sender, body []byte, signature string) ([]order, error) {
	half := len(signature) / 2
	var orders []order
	for _, v := range []struct{ what, value string }{
		{"x", "x"},
		{"=", "="},
		{"words", "not a signature"},
		{"bytes that are not ASCII", "\xff\xfe\xc3\xa9"},
		{"as many exclamation marks as a signature has characters", strings.Repeat("!", len(signature))},
		{"4096 letters", strings.Repeat("A", 4096)},
		{"a genuine signature and an exclamation mark", signature + "!"},
		{"an exclamation mark and a genuine signature", "!" + signature},
		{"a genuine signature with a blank in it", signature[:half] + " " + signature[half:]},
		{"a genuine signature in quotation marks", `"` + signature + `"`},
		{"a genuine signature twice, one after the other", signature + signature},
	} {
		orders = append(orders, order{what: "a delivery whose signature is " + v.what, body: body, values: []string{v.value}})
	}
	return orders, nil
}

func truncated(_ *Sender, body []byte, signature string) ([]order, error) {
	// Base64 without its padding is still the whole signature.
	core := strings.TrimRight(signature, "=")
	n := len(core)
	lengths := []int{n - 1, n - 2, n - 3, n - 4, n / 2, n / 4, strings.IndexByte(core, '=') + 1}
	slices.Sort(lengths)
	var orders []order
	for _, n := range slices.Compact(lengths) {
		if n > 0 {
			orders = append(orders, order{
				what:   fmt.Sprintf("a delivery with the first %d of %d characters of its signature", n, len(signature)),
				body:   body,
				values: []string{core[:n]},
			})
		}
	}
	return orders, nil
}

func duplicated(_ *Sender, body []byte, signature string) ([]order, error) {
	wrong := alter(signature, len(signature)/2)
	var orders []order
	for _, v := range []struct {
		what   string
		values []string
	}{
		{"a genuine and then a wrong", []string{signature, wrong}},
		{"a wrong and then a genuine", []string{wrong, signature}},
		{"a genuine and then an empty", []string{signature, ""}},
		{"an empty and then a genuine", []string{"", signature}},
		{"twice the same genuine", []string{signature, signature}},
	} {
		orders = append(orders, order{what: "a delivery with two signature headers, " + v.what + " one", body: body, values: v.values})
	}
	return orders, nil
}

func commaJoined(_ *Sender, body []byte, signature string) ([]order, error) {
	if strings.Contains(signature, ",") {
		return nil, nil
	}
	wrong := alter(signature, len(signature)/2)
	var orders []order
	for _, v := range []struct{ what, value string }{
		{"a genuine and a wrong one", signature + "," + wrong},
		{"a wrong and a genuine one", wrong + ", " + signature},
		{"a genuine one twice", signature + ", " + signature},
		{"a genuine one and nothing", signature + ","},
		{"nothing and a genuine one", "," + signature},
	} {
		orders = append(orders, order{what: "a delivery with two signatures joined by a comma, " + v.what, body: body, values: []string{v.value}})
	}
	return orders, nil
}

func transplanted(s *Sender, body []byte, _ string) ([]order, error) {
	others := append(flips(body), append(bytes.Clone(body), ' '))
	if len(body) > 0 {
		others = append(others, []byte{})
	}
	var orders []order
	for _, other := range others {
		signature, err := value(s.Sign, other)
		if err != nil {
			return nil, err
		}
		what := "a delivery with the genuine signature of another body"
		if len(other) == 0 {
			what = "a delivery with the genuine signature of an empty body"
		}
		orders = append(orders, order{what: what, body: body, values: []string{signature}})
	}
	return orders, nil
}

func altered(_ *Sender, body []byte, signature string) ([]order, error) {
	core := strings.TrimRight(signature, "=")
	n := len(core)
	positions := []int{n / 4, n / 2, 3 * n / 4, n - 1}
	if !isHex(core[n/2:]) {
		// The last digits of Base64 may hold bits that mean nothing.
		positions[3] = max(0, n-3)
	}
	var orders []order
	for _, i := range slices.Compact(positions) {
		orders = append(orders, order{
			what:   fmt.Sprintf("a delivery with character %d of %d of its signature changed", i+1, len(signature)),
			body:   body,
			values: []string{alter(signature, i)},
		})
	}
	return orders, nil
}

func strange(s *Sender, body []byte, _ string) ([]order, error) {
	if s.Stranger == nil {
		return nil, nil
	}
	signature, err := value(s.Stranger, body)
	return []order{{what: "a delivery signed with another key", body: body, values: []string{signature}}}, err
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
}

// alter returns value with the character at i changed into another of those
// that hex and Base64 alike have in its place.
func alter(value string, i int) string {
	b := []byte(value)
	for _, cycle := range []string{
		"0123456789", "abcdef", "ABCDEF", "ghijklmnopqrstuvwxyz", "GHIJKLMNOPQRSTUVWXYZ", "+/", "-_",
	} {
		if at := strings.IndexByte(cycle, b[i]); at >= 0 {
			b[i] = cycle[(at+1)%len(cycle)]
			return string(b)
		}
	}
	b[i] = 'A' // it was punctuation
	return string(b)
}
