package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// A Pool works on deliveries after they have been acknowledged. Shutdown gives
// the rest of them to Failed when its time is up.
func ExamplePool() {
	pool := middleware.NewPool(func(ctx context.Context, d *middleware.Delivery) error {
		fmt.Printf("working on %d bytes from %s\n", len(d.Body), d.Sender)
		return nil // an error: again, after a pause
	}, middleware.PoolOptions{
		Workers:  4,
		Backlog:  1000,
		Attempts: 5,
		Failed: func(d *middleware.Delivery, err error) {
			if errors.Is(err, middleware.ErrPoolClosed) {
				fmt.Println("to be kept for the next start:", d.ID())
				return
			}
			fmt.Println("to be looked at by somebody:", d.ID())
		},
	})

	// In a receiver: guard.Handler(middleware.Ack(pool.Put)).
	d := &middleware.Delivery{Sender: "haptik", Body: []byte("{}")}
	if err := pool.Put(context.Background(), d); err != nil {
		fmt.Println("not acknowledged:", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := pool.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: working on 2 bytes from haptik
}
