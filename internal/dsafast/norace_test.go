//go:build !race

package dsafast_test

const raceEnabled = false
