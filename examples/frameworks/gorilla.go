package frameworks

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/hooktrust/hooktrust/middleware"
)

// gorillaRouter mounts the Guard in gorilla/mux. Nothing is lost: mux hands on
// the ResponseWriter and the request as they came.
//
// What to watch for:
//   - No Methods("POST"): the sender's probes use other methods.
//   - A MiddlewareFunc given to Use that reads the body leaves the Guard
//     nothing, and every delivery is refused.
//   - mux redirects a path with "//" or "." in it with 301, and with
//     StrictSlash(true) one with or without a slash at its end. The sender takes
//     that for a failure. Give it the path as it stands here.
//   - http.TimeoutHandler around the router holds answers back and has no
//     Unwrap: the body's read deadline is lost. The Guard answers at the
//     deadline by itself.
//   - http.ListenAndServe sets no time-outs. Set ReadHeaderTimeout and
//     IdleTimeout, and a WriteTimeout longer than the contract's deadline.
func gorillaRouter(guard *middleware.Guard, app http.Handler) *mux.Router {
	r := mux.NewRouter()
	r.Handle("/hooks/haptik", guard.Handler(app))
	return r
}
