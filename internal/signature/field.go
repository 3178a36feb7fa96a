package signature

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
)

// Encoding is how signature bytes are written in a header. Its values are
// those of the Encoding types of the signature packages.
type Encoding int

const (
	Hex Encoding = iota
	Base64
)

// maxEncoded is the longest encoded signature that is read: an RSA signature
// of 8192 bits in hex.
const maxEncoded = 2048

var strictBase64 = base64.StdEncoding.Strict()

// Field is the header field that carries a signature.
type Field struct {
	name           string // as the Scheme spells it, for messages
	key            string // canonical
	prefix         string
	prefixOptional bool
	encoding       Encoding
}

// NewField checks its arguments, which come from a Scheme, and returns the
// Field they describe.
func NewField(name, prefix string, prefixOptional bool, encoding Encoding) (Field, error) {
	f := Field{name, textproto.CanonicalMIMEHeaderKey(name), prefix, prefixOptional, encoding}
	switch {
	case name == "":
		return Field{}, errors.New("the Scheme has no Header")
	case strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }):
		return Field{}, fmt.Errorf("the Scheme's Header %q is not a header name", name)
	case strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }):
		return Field{}, fmt.Errorf("the Scheme's Prefix %q has a comma, a blank or a character that no header can hold", prefix)
	case encoding != Hex && encoding != Base64:
		return Field{}, fmt.Errorf("the Scheme's Encoding %d is neither Hex nor Base64", encoding)
	}
	return f, nil
}

// isToken reports whether r may stand in a header name: RFC 9110, section 5.6.2.
func isToken(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// Name returns the name of the header field as the Scheme spells it.
func (f *Field) Name() string { return f.name }

// Format returns the header value that carries sig.
func (f *Field) Format(sig []byte) string {
	if f.encoding == Base64 {
		return f.prefix + base64.StdEncoding.EncodeToString(sig)
	}
	return f.prefix + hex.EncodeToString(sig)
}

// Read decodes the one value of the field in h into buf and returns the part
// of buf that it fills. A value that decodes to more than len(buf) bytes is
// malformed. The error is, or wraps, ErrMissing or ErrMalformed, and never
// repeats what h holds.
func (f *Field) Read(buf []byte, h http.Header) ([]byte, error) {
	values := h[f.key]
	if len(values) == 0 {
		return nil, fmt.Errorf("%w: the request has no %s", ErrMissing, f.name)
	}
	if len(values) > 1 {
		return nil, f.malformed("it has %d values instead of one", len(values))
	}
	value := values[0]
	if value == "" {
		return nil, f.malformed("it is empty")
	}
	if strings.IndexByte(value, ',') >= 0 {
		return nil, f.malformed("it has a comma, as several values joined into one have")
	}
	encoded, found := strings.CutPrefix(value, f.prefix)
	if !found && !f.prefixOptional {
		return nil, f.malformed("it does not begin with %q", f.prefix)
	}
	if f.encoding == Base64 {
		return f.readBase64(buf, encoded)
	}
	return f.readHex(buf, encoded)
}

func (f *Field) readHex(buf []byte, encoded string) ([]byte, error) {
	if len(encoded)%2 != 0 || len(encoded) > 2*len(buf) {
		if !isHex(encoded) {
			return nil, f.notHex(encoded)
		}
		return nil, f.WrongLength(len(encoded), "hex digits")
	}
	// The decoder of encoding/hex would need the string as bytes.
	var bad byte
	for i := range len(encoded) / 2 {
		hi, lo := nibbles[encoded[2*i]], nibbles[encoded[2*i+1]]
		bad |= hi | lo
		buf[i] = hi<<4 | lo&0xf
	}
	if bad > 0xf {
		return nil, f.notHex(encoded)
	}
	return buf[:len(encoded)/2], nil
}

// notHex says what the value is instead: the Scheme's Encoding is the likeliest
// mistake where a sender does not document it.
func (f *Field) notHex(encoded string) error {
	if len(encoded) <= maxEncoded {
		if _, err := strictBase64.DecodeString(encoded); err == nil {
			return f.malformed("it is not hex but looks like Base64; set the Scheme's Encoding if that is what the sender uses")
		}
	}
	return f.malformed("it is not hex")
}

func isHex(s string) bool {
	for i := range len(s) {
		if nibbles[s[i]] > 0xf {
			return false
		}
	}
	return true
}

// nibbles has the value of each hex digit, and more than 15 for other bytes.
var nibbles = func() (values [256]byte) {
	for c := range values {
		values[c] = 0x80
	}
	for i, c := range "0123456789abcdef" {
		values[c], values[strings.ToUpper(string(c))[0]] = byte(i), byte(i)
	}
	return values
}()

func (f *Field) readBase64(buf []byte, encoded string) ([]byte, error) {
	if len(encoded) > base64.StdEncoding.EncodedLen(len(buf)) || len(encoded) > maxEncoded {
		if isHex(encoded) {
			return nil, f.malformed("it is not Base64 but looks like hex; set the Scheme's Encoding if that is what the sender uses")
		}
		return nil, f.WrongLength(len(encoded), "Base64 characters")
	}
	// The decoder skips CR and LF even in strict mode.
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, f.malformed("it has a line break")
	}
	// The arrays spare two allocations a request; dst has room for what the
	// decoder writes before it finds the padding.
	var src, dst [maxEncoded]byte
	n, err := strictBase64.Decode(dst[:], src[:copy(src[:], encoded)])
	if err != nil {
		return nil, f.malformed("it is not strict standard Base64, padded")
	}
	if n > len(buf) {
		return nil, f.WrongLength(len(encoded), "Base64 characters")
	}
	return buf[:copy(buf, dst[:n])], nil
}

// WrongLength says that the value has n units (of the kind that unit names),
// which no signature of the scheme and its keys has.
func (f *Field) WrongLength(n int, unit string) error {
	return f.malformed("it has %d %s, which no signature by the configured keys has", n, unit)
}

// Malformed wraps ErrMalformed with the field's name and why.
func (f *Field) Malformed(why string) error {
	return f.malformed("%s", why)
}

func (f *Field) malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrMalformed, f.name, fmt.Sprintf(format, args...))
}
