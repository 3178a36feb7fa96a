module github.com/hooktrust/hooktrust/internal/bench

go 1.26.0

replace github.com/hooktrust/hooktrust => ../..

require (
	github.com/go-playground/webhooks/v6 v6.4.0
	github.com/google/go-github/v89 v89.0.0
	github.com/hooktrust/hooktrust v0.0.0-00010101000000-000000000000
	github.com/line/line-bot-sdk-go/v8 v8.14.0
	github.com/slack-go/slack v0.35.0
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1
	github.com/stripe/stripe-go/v85 v85.0.0
	github.com/svix/svix-webhooks v1.44.0
)

require (
	github.com/google/go-querystring v1.2.0 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	gopkg.in/validator.v2 v2.0.1 // indirect
)
