//go:build race

package dsasig_test

const raceEnabled = true
