package frameworks

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/hooktrust/hooktrust/middleware"
)

// chiRouter mounts the Guard in chi. Nothing is lost: chi hands on the
// ResponseWriter and the request as they came, and the wrappers of its
// middleware have Unwrap, through which the Guard sets its read deadline.
//
// What to watch for:
//   - Handle and not Post: the sender's probes use other methods.
//   - Middleware that reads the body (a decoder, a logger of bodies, r.FormValue
//     for forms) leaves the Guard nothing, and every delivery is refused.
//   - middleware.Timeout does not stop app: under a contract with a deadline,
//     app's context does not end with the request's. If it is the shorter one,
//     it makes a 504 of the 200 of an app that has written nothing, and the
//     sender delivers again. Leave it off this route.
//   - middleware.RequestSize below Guard.MaxBody is the limit, and is answered
//     413 by the Guard. middleware.Compress compresses answers only.
//   - http.ListenAndServe sets no time-outs. Set ReadHeaderTimeout and
//     IdleTimeout, and a WriteTimeout longer than the contract's deadline.
func chiRouter(guard *middleware.Guard, app http.Handler) chi.Router {
	r := chi.NewRouter()
	r.Handle("/hooks/haptik", guard.Handler(app))
	return r
}
