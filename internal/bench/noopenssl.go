//go:build !(cgo && openssl)

package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

const noOpenSSL = "needs cgo and libssl-dev"

func openSSLRows() ([]*row, error) { return nil, nil }

func openSSLNote() (string, error) { return "", nil }

// relay runs this command with OpenSSL, if there is one; then done is true.
// Otherwise it returns what is missing.
func relay(args []string, stdout, stderr io.Writer) (missing string, done bool, err error) {
	if missing := probe(); missing != "" {
		return missing, false, nil
	}
	command := append([]string{"run", "-tags", "openssl", "github.com/hooktrust/hooktrust/internal/bench"}, args...)
	cmd := exec.Command("go", command...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", true, nil
	case errors.As(err, &exit):
		return "", true, exitStatus(exit.ExitCode())
	default:
		return "", true, err
	}
}

// probe returns what is missing to build with OpenSSL, or "".
func probe() string {
	out, err := exec.Command("go", "env", "CGO_ENABLED", "CC", "CGO_CFLAGS").Output()
	if err != nil {
		return fmt.Sprintf("%s, and go env fails: %v", noOpenSSL, err)
	}
	env := strings.Split(string(out), "\n")
	if len(env) < 3 || env[0] != "1" {
		return noOpenSSL + "; cgo is off"
	}
	cc := strings.Fields(env[1])
	if len(cc) == 0 {
		return noOpenSSL + "; there is no C compiler"
	}
	cc = append(cc, strings.Fields(env[2])...)
	cmd := exec.Command(cc[0], append(cc[1:], "-fsyntax-only", "-x", "c", "-")...)
	cmd.Stdin = strings.NewReader("#include <openssl/evp.h>\n#if OPENSSL_VERSION_MAJOR < 3\n#error too old\n#endif\n")
	if cmd.Run() != nil {
		return noOpenSSL + "; there are no headers of OpenSSL 3"
	}
	return ""
}
