package main

import (
	"context"
	"log/slog"

	"github.com/hooktrust/hooktrust/middleware"
)

// This file is yours to change.

// work works on a delivery that was verified, stored and acknowledged.
//
// If it returns an error it is called again, after a pause. It must bear
// repetition, since it is also called again if the process dies before the
// table says that it was done. It should heed ctx. The error is kept and
// logged: put nothing of the body in it.
func work(ctx context.Context, d *middleware.Delivery) error {
	// YOUR CODE HERE: decode d.Body and act on it. d.ID() is fit as the key
	// under which you remember what was done.
	slog.InfoContext(ctx, "worked on", "id", d.ID())
	return nil
}

// failed is told of deliveries that are given up. They stay in the table as
// dead letters; see the README for how to have them worked on again.
func failed(d *middleware.Delivery, err error) {
	// YOUR CODE HERE: tell somebody.
	slog.Error("given up", "id", d.ID(), "err", err)
}
