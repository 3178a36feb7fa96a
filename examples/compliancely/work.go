package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// This file is yours to change.

// businessChanged is called for each change to a business's status that
// Compliancely tells.
//
// What is in payload is not documented, so it is the body's bytes, kept as they
// came. In the log of the first deliveries you see what shape yours have; then
// decode what you need, and expect a number where you have seen a string:
//
//	var change struct {
//		Status json.RawMessage `json:"status"` // any type: a wrong guess does not fail the whole
//	}
//	if err := json.Unmarshal(payload, &change); err != nil {
//		return errors.New("not the object that was expected") // err itself may quote the payload
//	}
//
// If businessChanged returns an error it is called again, after a pause, so it
// must bear repetition; it should heed ctx. The error is logged: put nothing of
// payload in it.
func businessChanged(ctx context.Context, payload json.RawMessage) error {
	// YOUR CODE HERE: store it, look the business up, …
	slog.InfoContext(ctx, "business changed", shape(payload)...)
	return nil
}

// shape describes payload for the log, without any of its values.
func shape(payload []byte) []any {
	if !json.Valid(payload) {
		// It is genuine all the same: perhaps a form, or a form of JSON that
		// encoding/json does not read.
		return []any{"shape", "not JSON", "size", len(payload)}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil {
		kind := "a JSON value"
		if bytes.HasPrefix(bytes.TrimSpace(payload), []byte("[")) {
			kind = "a JSON array"
		}
		return []any{"shape", kind, "size", len(payload)}
	}
	const most = 50 // in case the names are values, such as ids
	names := slices.Sorted(maps.Keys(fields))
	return []any{"shape", "a JSON object", "size", len(payload), "fields", names[:min(len(names), most)]}
}

// failed is told of deliveries that are given up. Compliancely has had its 2xx
// and does not send them again: this is the last that anybody knows of them.
func failed(d *middleware.Delivery, err error) {
	// YOUR CODE HERE: d is fit for encoding/json, to be kept and tried again.
	// The log gets the ID only, since the body is somebody's business.
	slog.Error("given up", "id", d.ID(), "err", err)
}

// attemptTime is how long one attempt may take: without it, an attempt that
// hangs would keep its worker for ever.
const attemptTime = 10 * time.Second

type workFunc = func(context.Context, *middleware.Delivery) error

// work works on a delivery that has been verified and acknowledged. The Pool
// calls it, and calls it again if it returns an error.
func work(ctx context.Context, d *middleware.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if err := businessChanged(ctx, d.Body); err != nil {
		return err
	}
	slog.InfoContext(ctx, "worked on", "id", d.ID())
	return nil
}
