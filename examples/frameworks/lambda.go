package frameworks

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/hooktrust/hooktrust/middleware"
)

// lambdaHandler puts the Guard behind an AWS Lambda function URL whose
// InvokeMode is BUFFERED, which is the default:
//
//	lambda.Start(lambdaHandler(guard, middleware.Ack(queue.Put)))
//
// What is lost:
//   - No handler outlives its answer: Lambda freezes the process when it has the
//     answer, and may never thaw it. A late answer of 200 is then a promise that
//     is not kept. Use Ack with a queue outside the process, such as SQS; not
//     with a Pool. For an app without Ack set Guard.Late to a handler that
//     answers 503, so that the sender delivers again.
//   - The Guard's clock starts when the function is invoked. What Lambda does
//     before, reading the body and starting a process when none is idle, is on
//     the sender's clock: let the Guard's Contract.Deadline be less than the
//     sender's by as much.
//   - The Guard limits neither the time nor the size of a body on its way.
//     Lambda reads it whole, 6 MB at most, and runs nothing meanwhile.
//
// What to watch for:
//   - The function's own time-out, 3 s unless set, must be longer than the Guard's
//     deadline, or Lambda ends the process before the Guard answers.
//   - A body that Lambda takes for binary comes in Base64, and is decoded here to
//     the bytes on the wire. One that it takes for text but that is not UTF-8
//     cannot be in the event as it was, and is refused.
//   - A header that comes twice is joined with a comma, and then refused: no
//     genuine sender sends its signature twice.
//   - http.ErrAbortHandler of app ends the process, and Lambda answers. The Guard
//     recovers every other panic.
//   - The URL's AuthType must be NONE: the sender signs for you and not for AWS.
//   - An API Gateway or a CloudFront distribution before the function has rules
//     of its own for bodies, headers and methods.
func lambdaHandler(guard *middleware.Guard, app http.Handler) func(context.Context, events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
	h := guard.Handler(app)
	return func(ctx context.Context, event events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
		r, err := lambdaRequest(ctx, &event)
		if err != nil {
			return events.LambdaFunctionURLResponse{StatusCode: http.StatusBadRequest}, nil
		}
		w := &lambdaWriter{header: make(http.Header)}
		h.ServeHTTP(w, r)
		return w.response(), nil
	}
}

// lambdaRequest returns the request that event tells of.
func lambdaRequest(ctx context.Context, event *events.LambdaFunctionURLRequest) (*http.Request, error) {
	body := []byte(event.Body)
	if event.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(event.Body); err != nil {
			return nil, err
		}
	}
	url := "https://" + event.RequestContext.DomainName + event.RawPath
	if event.RawQueryString != "" {
		url += "?" + event.RawQueryString
	}
	r, err := http.NewRequestWithContext(ctx, event.RequestContext.HTTP.Method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range event.Headers {
		r.Header.Add(name, value)
	}
	if len(event.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(event.Cookies, "; "))
	}
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = event.RequestContext.HTTP.SourceIP
	return r, nil
}

// lambdaWriter is a ResponseWriter that keeps the answer.
type lambdaWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *lambdaWriter) Header() http.Header { return w.header }

func (w *lambdaWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // 1xx are not the answer yet
		w.status = status
	}
}

func (w *lambdaWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK) // unless there is a status
	return w.body.Write(p)
}

func (w *lambdaWriter) response() events.LambdaFunctionURLResponse {
	w.WriteHeader(http.StatusOK)
	w.header.Del("Connection") // Lambda's affair
	resp := events.LambdaFunctionURLResponse{
		StatusCode: w.status,
		Headers:    make(map[string]string),
		Body:       w.body.String(),
		Cookies:    w.header.Values("Set-Cookie"),
	}
	w.header.Del("Set-Cookie")
	for name, values := range w.header {
		resp.Headers[name] = strings.Join(values, ", ")
	}
	if w.body.Len() > 0 && w.header.Get("Content-Type") == "" {
		resp.Headers["Content-Type"] = http.DetectContentType(w.body.Bytes()) // or Lambda says it is JSON
	}
	if !utf8.Valid(w.body.Bytes()) {
		resp.Body, resp.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	return resp
}
