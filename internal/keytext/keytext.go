// Package keytext reads one public key out of whatever text or bytes people
// keep it in, and says what else it is if it is none.
package keytext

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// What a text can be instead of the public key that is wanted. Errors wrap one
// of these and say what to do; none repeats any of the text.
var (
	ErrEmpty       = errors.New("the key is empty")
	ErrTooLong     = errors.New("the text is too long for a key")
	ErrPrivateKey  = errors.New("this is a private key")
	ErrCertificate = errors.New("this is a certificate")
	ErrRequest     = errors.New("this is a certificate request")
	ErrAlgorithm   = errors.New("this is another algorithm's key")
	ErrHalf        = errors.New("this is half a key")
	ErrTwo         = errors.New("these are two keys")
	ErrTrailing    = errors.New("bytes follow the key")
	ErrUnreadable  = errors.New("this is no public key in PEM, Base64 or DER")
)

// maxText is the length in bytes of the longest text that is looked at. A key
// of 8192 bits, as Base64 of a PEM, has less than 3 KiB.
const maxText = 128 << 10

// decode takes a key's DER out of its wrappings.
func decode(text []byte) ([]byte, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: it has more than %d KiB", ErrTooLong, maxText>>10)
	}
	if looksLikeDER(text) {
		return text, nil
	}
	s := clean(text)
	if hasPEM(s) {
		return decodePEM(s)
	}
	der, err := decodeBase64(s)
	if err != nil {
		return nil, err
	}
	if inner := clean(der); hasPEM(inner) {
		return decodePEM(inner)
	}
	return der, nil
}

// looksLikeDER reports whether text begins as a DER SEQUENCE does and no text
// can: the length of a SEQUENCE of 128 bytes or more has a byte over 0x7f, and
// a shorter one has its exact length in the second byte.
func looksLikeDER(text []byte) bool {
	return len(text) > 1 && text[0] == 0x30 && (text[1] >= 0x80 || int(text[1]) == len(text)-2)
}

// escapes are what line breaks and signs become in environment variables and
// in JSON strings. A backslash stands in no PEM and no Base64.
var escapes = strings.NewReplacer(
	`\\r`, "\n", `\\n`, "\n", `\r`, "\n", `\n`, "\n", `\"`, "", `\/`, "/", `\u003d`, "=", `\u003D`, "=", `\u002b`, "+", `\u002B`, "+")

// clean takes off a byte order mark, undoes escapes, and takes off quotes and
// blanks around the text.
func clean(text []byte) string {
	s := string(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	return strings.Trim(escapes.Replace(s), " \t\r\n\"'`")
}

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END "
	pemDash  = "-----"
)

func hasPEM(s string) bool {
	return strings.Contains(s, pemBegin) || strings.Contains(s, pemEnd)
}

// decodePEM returns what the one PEM block in s holds. encoding/pem needs the line breaks
// that an environment variable may have lost.
func decodePEM(s string) ([]byte, error) {
	if err := checkLabels(s); err != nil {
		return nil, err
	}
	before, rest, found := strings.Cut(s, pemBegin)
	if !found {
		return nil, fmt.Errorf("%w: its BEGIN line is missing; copy the whole of it", ErrHalf)
	}
	if strings.TrimSpace(before) != "" {
		return nil, fmt.Errorf("%w: text stands before its BEGIN line; remove it", ErrUnreadable)
	}
	if strings.Contains(rest, pemBegin) {
		return nil, fmt.Errorf("%w: pass each on its own", ErrTwo)
	}
	label, rest, found := strings.Cut(rest, pemDash)
	if !found {
		return nil, fmt.Errorf("%w: its BEGIN line is cut off; copy the whole of it", ErrHalf)
	}
	body, after, found := strings.Cut(rest, pemEnd+label+pemDash)
	if !found {
		return nil, fmt.Errorf("%w: the END line that belongs to its BEGIN line is missing; copy the whole of it", ErrHalf)
	}
	if strings.TrimSpace(after) != "" {
		return nil, fmt.Errorf("%w: remove what follows its END line", ErrTrailing)
	}
	if label != "PUBLIC KEY" && label != "RSA PUBLIC KEY" {
		return nil, fmt.Errorf("%w: its PEM label is not PUBLIC KEY; ask the sender for that form", ErrUnreadable)
	}
	return decodeBase64(body)
}

// checkLabels looks for what must not be taken for a public key, or be parsed
// at all.
func checkLabels(s string) error {
	switch {
	case strings.Contains(s, "PRIVATE KEY-----"):
		return errPrivateKey()
	case strings.Contains(s, "CERTIFICATE REQUEST-----"):
		return errRequest()
	case strings.Contains(s, "CERTIFICATE-----"):
		return errCertificate()
	}
	return nil
}

// decodeBase64 decodes s, in which blanks and line breaks may stand anywhere.
// Padding may be missing: whether the key is whole is told by its DER.
func decodeBase64(s string) ([]byte, error) {
	s = strings.Join(strings.Fields(s), "")
	if s == "" {
		return nil, fmt.Errorf("%w: is its variable or file set?", ErrEmpty)
	}
	first, rest, padded := strings.Cut(s, "=")
	rest = strings.TrimLeft(rest, "=")
	// Four characters hold three bytes; a single one left over holds none.
	whole := first
	if len(first)%4 == 1 {
		whole = first[:len(first)-1]
	}
	der, err := base64.RawStdEncoding.DecodeString(whole)
	if err != nil {
		return nil, unreadableText(s)
	}
	if padded && rest != "" {
		if _, err := sequence(der); err != nil {
			return nil, unreadableText(s)
		}
		if strings.HasPrefix(rest, "M") { // a SEQUENCE in Base64
			return nil, fmt.Errorf("%w: pass each on its own", ErrTwo)
		}
		return nil, fmt.Errorf("%w: remove what comes after the first %q", ErrTrailing, "=")
	}
	return der, nil
}

func unreadableText(s string) error {
	for _, prefix := range []string{"ssh-", "ecdsa-", "----BEGINSSH2"} {
		if strings.HasPrefix(s, prefix) {
			return fmt.Errorf("%w: it is in OpenSSH's form; convert it with ssh-keygen -e -m PKCS8", ErrUnreadable)
		}
	}
	if strings.ContainsRune(s, 0) || strings.HasPrefix(s, "\xff\xfe") || strings.HasPrefix(s, "\xfe\xff") {
		return fmt.Errorf("%w: it has NUL bytes, as UTF-16 has; save it as UTF-8 or ASCII", ErrUnreadable)
	}
	return fmt.Errorf("%w: it has characters that are not Base64; copy the key as the sender shows it", ErrUnreadable)
}

func errPrivateKey() error {
	return fmt.Errorf("%w: a receiver needs the public one only; whoever could read this one can sign, so replace the pair", ErrPrivateKey)
}

func errRequest() error {
	return fmt.Errorf("%w: take the public key out with openssl req -pubkey -noout", ErrRequest)
}

func errCertificate() error {
	return fmt.Errorf("%w: take the public key out with openssl x509 -pubkey -noout", ErrCertificate)
}
