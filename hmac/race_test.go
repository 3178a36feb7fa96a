//go:build race

package hmac_test

const raceEnabled = true
