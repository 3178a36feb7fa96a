package frameworks

import (
	"context"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdaurl"

	"github.com/hooktrust/hooktrust/middleware"
)

// lambdaStreaming puts the Guard behind an AWS Lambda function URL with AWS's
// own adapter. The whole of a main is
//
//	lambdaurl.Start(guard.Handler(app))
//
// What lambdaHandler's comment says holds here too, and besides:
//   - The URL's InvokeMode must be RESPONSE_STREAM: the adapter supports no
//     other, and with BUFFERED nobody promises that a 503 leaves as one.
//   - Base64 that breaks off reads as a body that breaks off, and is answered 400
//     by the Guard.
func lambdaStreaming(guard *middleware.Guard, app http.Handler) func(context.Context, *events.LambdaFunctionURLRequest) (*events.LambdaFunctionURLStreamingResponse, error) {
	return lambdaurl.Wrap(guard.Handler(app))
}
