package frameworks

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/hooktrust/hooktrust/middleware"
)

// echoRouter mounts the Guard in echo. Nothing is lost: echo's Response has
// Unwrap, through which the Guard sets its read deadline.
//
// What to watch for:
//   - Any and not POST: the sender's probes use other methods.
//   - c.Bind and c.FormValue before the Guard consume the body, and every
//     delivery is refused.
//   - middleware.Decompress changes the body of a request with Content-Encoding:
//     gzip. A sender that signed what it sent is refused.
//   - middleware.BodyDump reads all of a body before the Guard can limit its
//     size or time, whoever sent it.
//   - middleware.BodyLimit below Guard.MaxBody is the limit, but a body without
//     Content-Length that exceeds it is answered 400 and not 413. Guard.MaxBody
//     is enough.
//   - middleware.ContextTimeout does not stop app: under a contract with a
//     deadline, app's context does not end with the request's.
//   - Start sets a ReadTimeout of 30 s and no other. Set ReadHeaderTimeout,
//     IdleTimeout and a WriteTimeout longer than the contract's deadline, with
//     StartConfig.BeforeServeFunc or an http.Server of your own.
func echoRouter(guard *middleware.Guard, app http.Handler) *echo.Echo {
	e := echo.New()
	e.Any("/hooks/haptik", echo.WrapHandler(guard.Handler(app)))
	return e
}
