package frameworks

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/valyala/fasthttp"

	"github.com/hooktrust/hooktrust/middleware"
)

// fiberApp mounts the Guard in fiber, which is not built on net/http: its
// server, fasthttp, has the whole body before any handler runs.
//
// What is lost, and what stands in for it here:
//   - The Guard cannot limit the time that a body takes, and its clock starts
//     when the body is there. ReadTimeout limits that time; fiber sets none. The
//     sender's clock runs meanwhile: if bodies arrive slowly, let the Guard's
//     Contract.Deadline be less than the sender's by as much.
//   - The Guard cannot limit memory: the server reads as much as BodyLimit, 4 MB
//     unless set. With StreamRequestBody the adaptor reads without any limit.
//   - The adaptor's request is gone once the Guard has answered, though app may
//     go on or a queue hold the Delivery: its header would then show the next
//     request's. And of a header that comes twice the adaptor of fasthttp 1.69
//     keeps the last value, where the Guard must see both to refuse them.
//     ownRequest copies the request, with all values.
//   - A panic that leaves a net/http handler, which http.ErrAbortHandler of app
//     does, ends the whole process. recover makes it a 500.
//   - A request whose head has more than ReadBufferSize bytes, 4096 unless set, is
//     answered 431 before the Guard. Guard.Observe sees none of the 408, 413 and
//     431 that the server answers.
//   - Neither Locals nor the context of a fiber.Ctx reach app.
//
// What holds: the bytes, whatever the Content-Encoding; the answer at the
// deadline; and c.Body and c.Bind before the Guard do no harm, unless something
// sets the body.
//
// All and not Post: the sender's probes use other methods. To stop, call
// App.ShutdownWithContext, then Guard.Shutdown.
func fiberApp(guard *middleware.Guard, app http.Handler) *fiber.App {
	f := fiber.New(fiber.Config{
		ReadTimeout:    cmp.Or(guard.Contract.Deadline, 10*time.Second),
		IdleTimeout:    60 * time.Second,
		BodyLimit:      cmp.Or(int(guard.MaxBody), 1<<20),
		ReadBufferSize: 16 << 10,
	})
	f.All("/hooks/haptik", recover.New(), adaptor.HTTPHandler(ownRequest(guard.Handler(app))))
	return f
}

// ownRequest gives next a request with nothing in it that fasthttp uses again,
// but for the body, which the Guard copies before it answers.
func ownRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := r.Context().(*fasthttp.RequestCtx)
		if !ok {
			panic("ownRequest is not behind fiber's adaptor")
		}
		own, err := http.NewRequestWithContext(context.Background(), string(from.Method()), string(from.RequestURI()), r.Body)
		if err != nil {
			http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
			return
		}
		for name, value := range from.Request.Header.All() {
			own.Header.Add(string(name), string(value))
		}
		own.ContentLength = r.ContentLength
		own.RequestURI = own.URL.RequestURI()
		own.Host = string(from.Host())
		own.RemoteAddr = from.RemoteAddr().String()
		own.TLS = from.TLSConnectionState()
		next.ServeHTTP(w, own)
	})
}
