package frameworks

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/hooktrust/hooktrust/middleware"
)

// ginEngine mounts the Guard in gin. Nothing is lost: gin's ResponseWriter has
// Unwrap, through which the Guard sets its read deadline.
//
// What to watch for:
//   - Any and not POST: the sender's probes use other methods.
//   - Binding before the Guard (c.ShouldBindJSON, c.GetRawData, c.PostForm)
//     consumes the body, and every delivery is refused. ShouldBindBodyWith does
//     too: it keeps the bytes in the Context and leaves c.Request.Body at its
//     end.
//   - app must not be a gin.HandlerFunc that is given its Context by a closure:
//     gin uses the Context again while app may still run.
//   - gin.Recovery, and so gin.Default, swallows http.ErrAbortHandler, and the
//     sender gets 200 and an empty body for an app that meant to end the
//     connection, as httputil.ReverseProxy does. The Guard recovers every other
//     panic of app by itself: leave gin.Recovery off this route.
//   - gin redirects "/hooks/haptik/" with 307, which the sender takes for a
//     failure. Give it the path as it stands here.
//   - Engine.Run sets no time-outs. Give the Engine to an http.Server with
//     ReadHeaderTimeout, IdleTimeout and a WriteTimeout longer than the
//     contract's deadline.
func ginEngine(guard *middleware.Guard, app http.Handler) *gin.Engine {
	r := gin.New()
	r.Any("/hooks/haptik", gin.WrapH(guard.Handler(app)))
	return r
}
