package conformance

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/internal/keytext"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/rsasig"
)

// keyKit is one package's ParsePublicKey and keys for it.
type keyKit struct {
	name string
	der  []byte // SubjectPublicKeyInfo of the key
	next []byte // that of another key
	// parse returns the key again as DER.
	parse func(t testing.TB, text []byte) ([]byte, error)
	// private is the key's private half, in all forms, by PEM label.
	private map[string][]byte
	// other is another algorithm's key, in DER.
	other []byte
}

func keyKits(t testing.TB) []keyKit {
	r, r2 := testkeys.RSA(t, 2048), testkeys.RSA(t, 2048)
	d, d2 := testkeys.DSA(t, 2048, 256), testkeys.DSA(t, 2048, 256)
	rsaPKCS8, err := x509.MarshalPKCS8PrivateKey(r)
	require.NoError(t, err)
	return []keyKit{
		{
			name: "rsasig", der: pkixOf(t, &r.PublicKey), next: pkixOf(t, &r2.PublicKey),
			parse: func(t testing.TB, text []byte) ([]byte, error) {
				key, err := rsasig.ParsePublicKey(text)
				if err != nil {
					require.Nil(t, key)
					return nil, err
				}
				return pkixOf(t, key), nil
			},
			private: map[string][]byte{
				"PRIVATE KEY":     rsaPKCS8,
				"RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(r),
			},
			other: testkeys.PKIX(t, &d.PublicKey),
		},
		{
			name: "dsasig", der: testkeys.PKIX(t, &d.PublicKey), next: testkeys.PKIX(t, &d2.PublicKey),
			parse: func(t testing.TB, text []byte) ([]byte, error) {
				key, err := dsasig.ParsePublicKey(text)
				if err != nil {
					require.Nil(t, key)
					return nil, err
				}
				return testkeys.PKIX(t, key), nil
			},
			private: map[string][]byte{
				"PRIVATE KEY":     testkeys.PKCS8(t, d),
				"DSA PRIVATE KEY": testkeys.OpenSSL(t, d),
			},
			other: pkixOf(t, &r.PublicKey),
		},
	}
}

func pkixOf(t testing.TB, key any) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return der
}

func armour(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

func wrap(s, lineBreak string) string {
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + lineBreak)
		s = s[76:]
	}
	return out.String() + s + lineBreak
}

func TestKeyForms(t *testing.T) {
	replace := func(from, to string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, from, to) }
	}
	forms := []struct {
		name string
		text func(der []byte) string
	}{
		{"DER", func(der []byte) string { return string(der) }},
		{"Base64", b64},
		{"Base64 without padding", func(der []byte) string { return strings.TrimRight(b64(der), "=") }},
		{"Base64 with a line feed", func(der []byte) string { return b64(der) + "\n" }},
		{"Base64, wrapped", func(der []byte) string { return wrap(b64(der), "\n") }},
		{"Base64, wrapped with CR LF", func(der []byte) string { return wrap(b64(der), "\r\n") }},
		{"Base64, wrapped with blanks", func(der []byte) string { return wrap(b64(der), " ") }},
		{"Base64, wrapped with literal \\n", func(der []byte) string { return wrap(b64(der), `\n`) }},
		{"Base64 in quotes", func(der []byte) string { return `"` + b64(der) + `"` }},
		{"Base64 from JSON", func(der []byte) string {
			return `"` + strings.NewReplacer("/", `\/`, "=", `\u003d`, "+", `\u002b`).Replace(b64(der)) + `"`
		}},
		{"PEM", func(der []byte) string { return armour("PUBLIC KEY", der) }},
		{"PEM without the last line feed", func(der []byte) string { return strings.TrimSpace(armour("PUBLIC KEY", der)) }},
		{"PEM with CR LF", func(der []byte) string { return replace("\n", "\r\n")(armour("PUBLIC KEY", der)) }},
		{"PEM with byte order mark", func(der []byte) string { return "\xef\xbb\xbf" + armour("PUBLIC KEY", der) }},
		{"PEM with blanks around", func(der []byte) string { return " \r\n\t " + armour("PUBLIC KEY", der) + "  \n\n" }},
		{"PEM, indented", func(der []byte) string { return "    " + replace("\n", "\n    ")(armour("PUBLIC KEY", der)) }},
		{"PEM in double quotes", func(der []byte) string { return `"` + armour("PUBLIC KEY", der) + `"` }},
		{"PEM in single quotes", func(der []byte) string { return "'" + armour("PUBLIC KEY", der) + "'" }},
		{"PEM with literal \\n", func(der []byte) string { return replace("\n", `\n`)(armour("PUBLIC KEY", der)) }},
		{"PEM with literal \\r\\n", func(der []byte) string { return replace("\n", `\r\n`)(armour("PUBLIC KEY", der)) }},
		{"PEM with literal \\n in quotes", func(der []byte) string { return `"` + replace("\n", `\n`)(armour("PUBLIC KEY", der)) + `"` }},
		{"PEM with twice escaped \\n", func(der []byte) string { return `\"` + replace("\n", `\\n`)(armour("PUBLIC KEY", der)) + `\"` }},
		{"PEM on one line with blanks", func(der []byte) string { return replace("\n", " ")(armour("PUBLIC KEY", der)) }},
		{"PEM on one line with nothing", func(der []byte) string { return replace("\n", "")(armour("PUBLIC KEY", der)) }},
		{"Base64 of a PEM", func(der []byte) string { return b64([]byte(armour("PUBLIC KEY", der))) }},
		{"Base64 of a PEM, wrapped", func(der []byte) string { return wrap(b64([]byte(armour("PUBLIC KEY", der))), "\r\n") }},
		{"Base64 of a PEM with CR LF", func(der []byte) string {
			return b64([]byte(replace("\n", "\r\n")(armour("PUBLIC KEY", der))))
		}},
	}
	for _, k := range keyKits(t) {
		for _, form := range forms {
			t.Run(k.name+"/"+form.name, func(t *testing.T) {
				text := []byte(form.text(k.der))
				before := bytes.Clone(text)
				got, err := k.parse(t, text)
				require.NoError(t, err)
				assert.Equal(t, k.der, got)
				assert.Equal(t, before, text, "the text was changed")
			})
		}
	}
}

func TestPKCS1Forms(t *testing.T) {
	key := testkeys.RSA(t, 2048)
	der := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	for name, text := range map[string]string{
		"PEM":             armour("RSA PUBLIC KEY", der),
		"PEM on one line": strings.ReplaceAll(armour("RSA PUBLIC KEY", der), "\n", " "),
		"DER":             string(der),
		"Base64":          b64(der),
	} {
		got, err := rsasig.ParsePublicKey([]byte(text))
		require.NoError(t, err, name)
		assert.True(t, key.PublicKey.Equal(got), name)
		_, err = dsasig.ParsePublicKey([]byte(text))
		assert.ErrorIs(t, err, keytext.ErrAlgorithm, name)
	}
}

func TestNotAKey(t *testing.T) {
	signer := testkeys.RSA(t, 2048)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &signer.PublicKey, signer)
	require.NoError(t, err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "test"}}, signer)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ecPrivate, err := x509.MarshalECPrivateKey(ec)
	require.NoError(t, err)
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	edPKCS8, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(edPrivate))
	require.NoError(t, err)

	for _, k := range keyKits(t) {
		type test struct {
			name string
			text string
			want error
		}
		whole := armour("PUBLIC KEY", k.der)
		tests := []test{
			{"nil", "", keytext.ErrEmpty},
			{"blank", " \r\n\t", keytext.ErrEmpty},
			{"empty quotes", `""`, keytext.ErrEmpty},
			{"literal \\n alone", `\n`, keytext.ErrEmpty},
			{"PEM of nothing", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", keytext.ErrEmpty},
			{"256 KiB", strings.Repeat("A", 256<<10), keytext.ErrTooLong},
			{"prose", "paste your public key here!", keytext.ErrUnreadable},
			{"JSON", `{"keys":[]}`, keytext.ErrUnreadable},
			{"a file's name", "/etc/keys/sender.pem", keytext.ErrUnreadable},
			{"zeros", string(make([]byte, 300)), keytext.ErrUnreadable},
			{"Base64 of zeros", b64(make([]byte, 300)), keytext.ErrUnreadable},
			{"Base64 of Base64", b64([]byte(b64(k.der))), keytext.ErrUnreadable},
			{"URL alphabet", strings.NewReplacer("+", "-", "/", "_").Replace(b64(k.der)), keytext.ErrUnreadable},
			{"UTF-16", "\xff\xfe" + strings.Join(strings.Split(whole, ""), "\x00") + "\x00", keytext.ErrUnreadable},
			{"hex", "3082012230", keytext.ErrUnreadable},
			{"OpenSSH", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ me@host", keytext.ErrUnreadable},
			{"another PEM label", armour("DSA PARAMETERS", k.der), keytext.ErrUnreadable},
			{"text before", "Bag Attributes\n" + whole, keytext.ErrUnreadable},
			{"damaged inside", armour("PUBLIC KEY", append([]byte{0x30, 3}, "abc"...)), keytext.ErrUnreadable},

			{"certificate", armour("CERTIFICATE", certificate), keytext.ErrCertificate},
			{"certificate in DER", string(certificate), keytext.ErrCertificate},
			{"certificate in Base64", b64(certificate), keytext.ErrCertificate},
			{"certificate under the wrong label", armour("PUBLIC KEY", certificate), keytext.ErrCertificate},
			{"request", armour("CERTIFICATE REQUEST", request), keytext.ErrRequest},
			{"request under its old label", armour("NEW CERTIFICATE REQUEST", request), keytext.ErrRequest},
			{"request in DER", string(request), keytext.ErrRequest},
			{"request in Base64", b64(request), keytext.ErrRequest},

			{"another algorithm", armour("PUBLIC KEY", k.other), keytext.ErrAlgorithm},
			{"another algorithm in DER", string(k.other), keytext.ErrAlgorithm},
			{"ECDSA", armour("PUBLIC KEY", pkixOf(t, &ec.PublicKey)), keytext.ErrAlgorithm},
			{"Ed25519 in DER", string(pkixOf(t, edPublic)), keytext.ErrAlgorithm},
			{"Ed25519 in Base64", b64(pkixOf(t, edPublic)), keytext.ErrAlgorithm},
			{"EC private key", armour("EC PRIVATE KEY", ecPrivate), keytext.ErrPrivateKey},
			{"EC private key in DER", string(ecPrivate), keytext.ErrPrivateKey},
			{"Ed25519 private key in Base64", b64(edPKCS8), keytext.ErrPrivateKey},
			{"encrypted private key", armour("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), keytext.ErrPrivateKey},
			{"OpenSSH private key", armour("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), keytext.ErrPrivateKey},

			{"two PEMs", whole + armour("PUBLIC KEY", k.next), keytext.ErrTwo},
			{"the same PEM twice", whole + whole, keytext.ErrTwo},
			{"two PEMs on one line", strings.ReplaceAll(whole+whole, "\n", " "), keytext.ErrTwo},
			{"two in DER", string(k.der) + string(k.next), keytext.ErrTwo},
			{"three in DER", string(k.der) + string(k.next) + string(k.next), keytext.ErrTwo},
			{"two in one Base64", b64(append(bytes.Clone(k.der), k.next...)), keytext.ErrTwo},
			{"two in one PEM", armour("PUBLIC KEY", append(bytes.Clone(k.der), k.next...)), keytext.ErrTwo},
			{"two lines of Base64", b64(k.der) + "\n" + b64(k.next), keytext.ErrTwo},
			{"text after Base64", b64(k.der) + "\nabc", keytext.ErrTrailing},
			{"a byte after DER", string(k.der) + "\n", keytext.ErrTrailing},
			{"a byte after, in Base64", b64(append(bytes.Clone(k.der), 0)), keytext.ErrTrailing},
			{"a byte after, in PEM", armour("PUBLIC KEY", append(bytes.Clone(k.der), 0)), keytext.ErrTrailing},
			{"text after PEM", whole + "# the key of production\n", keytext.ErrTrailing},
		}
		for label, der := range k.private {
			tests = append(tests,
				test{label, armour(label, der), keytext.ErrPrivateKey},
				test{label + " on one line", strings.ReplaceAll(armour(label, der), "\n", " "), keytext.ErrPrivateKey},
				test{label + " with the public key", whole + armour(label, der), keytext.ErrPrivateKey},
				test{label + " under the wrong label", armour("PUBLIC KEY", der), keytext.ErrPrivateKey},
				test{label + " in DER", string(der), keytext.ErrPrivateKey},
				test{label + " in Base64", b64(der), keytext.ErrPrivateKey},
				test{label + " as Base64 of a PEM", b64([]byte(armour(label, der))), keytext.ErrPrivateKey})
		}
		halves := map[string]string{
			"PEM without its END line":     strings.Split(whole, "-----END")[0],
			"PEM without its BEGIN line":   strings.SplitN(whole, "\n", 2)[1],
			"first lines of a PEM":         whole[:len(whole)/2],
			"last lines of a PEM":          whole[len(whole)/2:],
			"BEGIN line cut off":           "-----BEGIN PUBLIC",
			"PEM with a line missing":      strings.Join(removeLine(strings.Split(whole, "\n"), 2), "\n"),
			"END line of another kind":     strings.Replace(whole, "END PUBLIC", "END RSA PUBLIC", 1),
			"half the DER":                 string(k.der[:len(k.der)/2]),
			"half the Base64":              b64(k.der)[:len(b64(k.der))/2],
			"Base64 less its last char":    strings.TrimRight(b64(k.der), "=")[:len(strings.TrimRight(b64(k.der), "="))-1],
			"Base64 of half a PEM":         b64([]byte(whole[:len(whole)/2])),
			"half the DER as a whole PEM":  armour("PUBLIC KEY", k.der[:len(k.der)/2]),
			"first line of wrapped Base64": wrap(b64(k.der), "\n")[:76],
		}
		for name, text := range halves {
			tests = append(tests, test{name, text, keytext.ErrHalf})
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				_, err := k.parse(t, []byte(tt.text))
				require.ErrorIs(t, err, tt.want)
				assert.True(t, strings.HasPrefix(err.Error(), k.name+": "))
				for _, piece := range strings.FieldsFunc(tt.text, func(r rune) bool { return r < '0' || r > 'z' }) {
					if len(piece) > 16 {
						assert.NotContains(t, err.Error(), piece)
					}
				}
			})
		}
	}
}

func removeLine(lines []string, i int) []string {
	return append(append([]string(nil), lines[:i]...), lines[i+1:]...)
}

// TestEveryCut cuts each form of a key at every byte: the rest is never a key
// and never a panic.
func TestEveryCut(t *testing.T) {
	for _, k := range keyKits(t) {
		for _, text := range []string{string(k.der), b64(k.der), strings.TrimSpace(armour("PUBLIC KEY", k.der)), b64([]byte(armour("PUBLIC KEY", k.der)))} {
			// What may be missing without loss: padding, and the line
			// feed at the end of a PEM in Base64.
			needed := len(strings.TrimRight(text, "=")) - 2
			if text[0] == 0x30 || text[0] == '-' {
				needed = len(text)
			}
			for n := range len(text) {
				got, err := k.parse(t, []byte(text[:n]))
				if err == nil {
					require.Equal(t, k.der, got)
					require.GreaterOrEqual(t, n, needed, "%s: %q...", k.name, text[:8])
				}
			}
		}
	}
}

// TestHostileNumbers parses keys whose numbers are as long as a text may be;
// the time limit is the go command's, since an exponentiation with them would
// take minutes.
func TestHostileNumbers(t *testing.T) {
	huge := new(big.Int).Lsh(big.NewInt(1), 65_535)
	huge.SetBit(huge, 0, 1)
	d := testkeys.DSA(t, 1024, 160).PublicKey
	d.P, d.Y = huge, new(big.Int).Sub(huge, big.NewInt(2))
	_, err := dsasig.ParsePublicKey(testkeys.PKIX(t, &d))
	assert.ErrorContains(t, err, "65536 bits")
	_, err = rsasig.ParsePublicKey(pkixOf(t, &rsa.PublicKey{N: huge, E: 65537}))
	assert.ErrorContains(t, err, "65536 bits")
	d.P = new(big.Int).Neg(huge)
	_, err = dsasig.ParsePublicKey(testkeys.PKIX(t, &d))
	assert.ErrorIs(t, err, keytext.ErrUnreadable)
	_, err = rsasig.ParsePublicKey(append([]byte{0x30, 0x0e, 2, 3, 1, 0, 1, 2, 7, 1, 0, 0, 0, 0, 0}, 0))
	assert.ErrorIs(t, err, keytext.ErrUnreadable, "an exponent of 49 bits")
}
