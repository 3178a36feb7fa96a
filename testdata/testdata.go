// Package testdata holds deliveries signed by implementations other than this
// module's, and tampered deliveries that a verifier must refuse. README.md says
// where each file comes from and what each kind of tampering is.
package testdata

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
)

//go:embed bodies keys vectors
var files embed.FS

// Case is one delivery and the verdict it must get.
type Case struct {
	// Name is unique over all files.
	Name string `json:"name"`
	// Source is what made the signature: "java17", "openssl3", "python3" or
	// "published".
	Source string `json:"source"`
	// Kind is "hmac", "rsa" or "dsa".
	Kind string `json:"kind"`
	// Hash is the hash the verifier is configured with: "SHA1", "SHA224",
	// "SHA256", "SHA384" or "SHA512".
	Hash string `json:"hash"`
	// Encoding is "hex" or "base64".
	Encoding string `json:"encoding"`
	// Format is "der" or "p1363" for DSA, else empty.
	Format string `json:"format"`
	// Prefix is the text the verifier expects before the encoded signature.
	Prefix string `json:"prefix"`
	// Secret is the HMAC secret.
	Secret []byte `json:"secret"`
	// Key is the RSA or DSA public key's name, for [PublicKey].
	Key string `json:"key"`
	// Body is the body's file name in bodies, or empty if Body64 is set.
	Body string `json:"body"`
	// Body64 is the body itself, or empty if Body is set.
	Body64 []byte `json:"body64"`
	// FlipBit, if set, is the bit to flip in the body before verifying: bit n is
	// mask 1<<(n%8) of byte n/8. [Case.BodyBytes] has already flipped it.
	FlipBit *int `json:"flipbit"`
	// Value is the whole header value, prefix included.
	Value string `json:"value"`
	// Want is "ok", "malformed" or "mismatch".
	Want string `json:"want"`
	// Why is the kind of tampering, or empty for a good delivery.
	Why string `json:"why"`
}

// Cases returns the cases of all files. It is an error if a file has no case or
// if two cases have the same name.
func Cases() ([]Case, error) {
	entries, err := files.ReadDir("vectors")
	if err != nil {
		return nil, err
	}
	var all []Case
	seen := make(map[string]bool)
	for _, entry := range entries {
		cases, err := read("vectors/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		if len(cases) == 0 {
			return nil, fmt.Errorf("%s: no cases", entry.Name())
		}
		for _, c := range cases {
			if seen[c.Name] {
				return nil, fmt.Errorf("%s: case %q is not unique", entry.Name(), c.Name)
			}
			seen[c.Name] = true
		}
		all = append(all, cases...)
	}
	return all, nil
}

func read(path string) ([]Case, error) {
	data, err := files.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, errors.New("not one JSON value")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var cases []Case
	if err := decoder.Decode(&cases); err != nil {
		return nil, err
	}
	return cases, nil
}

// PublicKey returns the PEM text of the public key with the given name.
func PublicKey(name string) ([]byte, error) {
	return files.ReadFile("keys/" + name + ".pem")
}

// BodyBytes returns the body with FlipBit applied. Each call returns a slice of
// its own.
func (c Case) BodyBytes() ([]byte, error) {
	body := bytes.Clone(c.Body64)
	switch {
	case c.Body != "" && len(c.Body64) != 0:
		return nil, fmt.Errorf("case %q has two bodies", c.Name)
	case c.Body != "":
		var err error
		if body, err = files.ReadFile("bodies/" + c.Body); err != nil {
			return nil, err
		}
	case len(c.Body64) == 0:
		return nil, fmt.Errorf("case %q has no body", c.Name)
	}
	if c.FlipBit != nil {
		n := *c.FlipBit
		if n < 0 || n >= 8*len(body) {
			return nil, fmt.Errorf("case %q flips bit %d of %d bytes", c.Name, n, len(body))
		}
		body[n/8] ^= 1 << (n % 8)
	}
	return body, nil
}
