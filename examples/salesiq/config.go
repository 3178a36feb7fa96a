package main

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/hooktrust/hooktrust/rsasig"
)

// keyVariables are the environment variables that hold the public keys, or,
// with _FILE after them, the names of files that do. A delivery signed with
// either key is accepted. SalesIQ has at most two keys at a time and signs with
// the older one until that is deleted: set both during a rotation.
var keyVariables = [...]string{"SALESIQ_PUBLIC_KEY", "SALESIQ_PUBLIC_KEY_PREVIOUS"}

// minBitsVariable allows keys that are shorter than 2048 bits. What size
// SalesIQ's are is not documented.
const minBitsVariable = "SALESIQ_MIN_BITS"

// newVerifier returns a Verifier with the keys that the environment has. Its
// errors say which variable to set and contain no value of one: what stands in
// the wrong variable may be a key.
func newVerifier(getenv func(string) string) (*rsasig.Verifier, error) {
	scheme := rsasig.SalesIQ()
	if value := getenv(minBitsVariable); value != "" {
		bits, err := strconv.Atoi(value)
		if err != nil || bits < 1024 || bits > 8192 {
			return nil, fmt.Errorf("%s is not a number of bits from 1024 to 8192", minBitsVariable)
		}
		scheme.MinBits = bits
	}
	var keys []*rsa.PublicKey
	for i, variable := range keyVariables {
		name, text, err := keyText(getenv, variable)
		switch {
		case err != nil:
			return nil, err
		case text == "" && i > 0:
			continue
		case text == "":
			return nil, fmt.Errorf("no public key: set %s to the one that SalesIQ's console shows, or %s_FILE to the name of a file with it",
				variable, variable)
		}
		key, err := rsasig.ParsePublicKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		// Each by itself, so that the error can name the variable.
		if _, err := rsasig.New(scheme, key); err != nil {
			return nil, fmt.Errorf("%s: %w (%s sets what is required)", name, err, minBitsVariable)
		}
		keys = append(keys, key)
	}
	return rsasig.New(scheme, keys...)
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
