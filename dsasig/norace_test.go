//go:build !race

package dsasig_test

const raceEnabled = false
