package main

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with DSA and offers nothing else
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hooktrust/hooktrust/dsasig"
)

// keyVariables are the environment variables that hold the public keys, or,
// with _FILE after them, the names of files that do. A delivery signed with
// either key is accepted.
//
// A new key serves ConvoKraft's development environment at once, and production
// when the project is deployed: until then development signs with the new key
// and production with the previous one. Set both for that time.
var keyVariables = [...]string{"CONVOKRAFT_PUBLIC_KEY", "CONVOKRAFT_PUBLIC_KEY_PREVIOUS"}

// What ConvoKraft does not document: how it hashes, and how it writes a
// signature. The defaults are those of dsasig.ConvoKraft.
var (
	hashes = map[string]crypto.Hash{
		"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
	}
	formats   = map[string]dsasig.Format{"der": dsasig.DER, "p1363": dsasig.P1363}
	encodings = map[string]dsasig.Encoding{"base64": dsasig.Base64, "hex": dsasig.Hex}
)

// newVerifier returns a Verifier as the environment configures it. Its errors
// say which variable to set and contain no value of one: what stands in the
// wrong variable may be a key.
func newVerifier(getenv func(string) string) (*dsasig.Verifier, error) {
	scheme := dsasig.ConvoKraft()
	if err := errors.Join(
		choose(&scheme.Hash, getenv, "CONVOKRAFT_HASH", hashes),
		choose(&scheme.Format, getenv, "CONVOKRAFT_FORMAT", formats),
		choose(&scheme.Encoding, getenv, "CONVOKRAFT_ENCODING", encodings),
	); err != nil {
		return nil, err
	}
	var keys []*dsa.PublicKey
	for i, variable := range keyVariables {
		name, text, err := keyText(getenv, variable)
		switch {
		case err != nil:
			return nil, err
		case text == "" && i > 0:
			continue
		case text == "":
			return nil, fmt.Errorf("no public key: set %s to the one that ConvoKraft's console shows, or %s_FILE to the name of a file with it",
				variable, variable)
		}
		key, err := dsasig.ParsePublicKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		// Each by itself, so that the error can name the variable.
		if _, err := dsasig.New(scheme, key); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return dsasig.New(scheme, keys...)
}

// choose sets field to what variable names among choices, if it is set.
func choose[T any](field *T, getenv func(string) string, variable string, choices map[string]T) error {
	name := strings.ToLower(strings.TrimSpace(getenv(variable)))
	if name == "" {
		return nil
	}
	choice, ok := choices[name]
	if !ok {
		return fmt.Errorf("%s is none of %s", variable, strings.Join(slices.Sorted(maps.Keys(choices)), ", "))
	}
	*field = choice
	return nil
}

// keyText returns a key as it is written in variable or in the file that
// variable_FILE names, and which of the two it was. It is "" if neither is set.
func keyText(getenv func(string) string, variable string) (name, text string, err error) {
	text, file := strings.TrimSpace(getenv(variable)), getenv(variable+"_FILE")
	if file == "" {
		return variable, text, nil
	}
	name = variable + "_FILE"
	if text != "" {
		return "", "", fmt.Errorf("both %s and %s are set: unset one", variable, name)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		// Not the path: somebody may have put the key itself there.
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return "", "", fmt.Errorf("the file that %s names cannot be read: %w", name, err)
	}
	text = strings.TrimSpace(string(content))
	if text == "" {
		return "", "", fmt.Errorf("the file that %s names is empty", name)
	}
	return name, text, nil
}
