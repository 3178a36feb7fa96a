// Package frameworks mounts a [middleware.Guard] in routers other than
// net/http's. Each file is made to be copied, and says what to watch for:
//
//	chi.go              go-chi/chi
//	gin.go              gin-gonic/gin
//	echo.go             labstack/echo
//	gorilla.go          gorilla/mux
//	fiber.go            gofiber/fiber, through its net/http adaptor
//	lambda.go           AWS Lambda function URL, InvokeMode BUFFERED (the default)
//	lambda_streaming.go AWS Lambda function URL, InvokeMode RESPONSE_STREAM
//
// The tests play a sender against each of them with package hooktest, and show
// what goes wrong in the setups that the files warn of.
//
// The same holds for all:
//   - The Guard's route gets every method. The Guard answers the sender's probes
//     and refuses other methods; a route for POST alone answers HEAD with 405 or
//     404.
//   - Nothing before the Guard reads, parses, decompresses or rewrites the body:
//     the bytes on the wire are what was signed. In app, read the body as often
//     as you like.
//   - app is an [http.Handler] and not a handler of the framework. It may go on
//     after the Guard has answered at the deadline, and by then the framework
//     has given its context to another request.
//   - The URL that the sender has is the route's, letter by letter. Routers
//     redirect what is nearly it, and a sender counts a redirect as a failure.
package frameworks
