// Package hooktrust proves who sent a webhook before its handler runs.
//
// The packages below it do the work:
//
//   - hmac, rsasig and dsasig verify the three kinds of signature and know how
//     Haptik, Compliancely, Zoho SalesIQ and Zoho ConvoKraft make them;
//   - middleware wraps an http.Handler, so that it runs for verified deliveries
//     only and the sender has its answer in time;
//   - middleware/hooktest plays a sender against a receiver, in tests.
//
// examples/quickstart is a receiver for all four senders.
package hooktrust
