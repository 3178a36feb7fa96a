package main

import (
	stdhmac "crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"time"

	playground "github.com/go-playground/webhooks/v6/github"
	"github.com/google/go-github/v89/github"
	line "github.com/line/line-bot-sdk-go/v8/linebot/webhook"
	"github.com/slack-go/slack"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	stripe "github.com/stripe/stripe-go/v85/webhook"
	svix "github.com/svix/svix-webhooks/go"

	"github.com/hooktrust/hooktrust/hmac"
)

// modules are the modules of the peers.
var modules = []string{
	"github.com/google/go-github/v89",
	"github.com/stripe/stripe-go/v85",
	"github.com/standard-webhooks/standard-webhooks/libraries",
	"github.com/svix/svix-webhooks",
	"github.com/slack-go/slack",
	"github.com/line/line-bot-sdk-go/v8",
	"github.com/go-playground/webhooks/v6",
}

// peer is another library's way to verify a delivery.
type peer struct {
	module   string
	receiver // of the library
	scheme   hmac.Scheme
	then     func([]byte) error // what the library does with a verified body
}

// peerRows compares hooktrust with other libraries. A peer that gets the body
// stands beside hmac.Verify, one that gets the request beside Guard.Check.
func peerRows() ([]*row, error) {
	peers, err := peers()
	if err != nil {
		return nil, err
	}
	var rows []*row
	for _, p := range peers {
		var ours receiver
		if p.verify != nil {
			ours, err = hmacVerify(p.scheme)
		} else {
			ours, err = guardCheck(p.scheme, p.then)
		}
		if err != nil {
			return nil, err
		}
		what := ours.name
		if p.then != nil {
			what += " and JSON"
		}
		rows = append(rows, &row{what + " beside " + p.name, ours.side(), p.side()})
	}
	return rows, nil
}

func peers() ([]peer, error) {
	key := []byte(secret)
	standard, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return nil, err
	}
	svixHook, err := svix.NewWebhookRaw(key)
	if err != nil {
		return nil, err
	}
	playgroundHook, err := playground.New(playground.Options.Secret(secret))
	if err != nil {
		return nil, err
	}

	githubSHA256 := hmac.Compliancely()
	githubSHA256.Header = "X-Hub-Signature-256"
	base64SHA256 := hmac.Compliancely()
	base64SHA256.Encoding = hmac.Base64

	return []peer{
		{
			module: "github.com/google/go-github/v89",
			scheme: hmac.Haptik(),
			receiver: receiver{
				name: "go-github ValidateSignature, HMAC-SHA1",
				sign: signGitHub,
				verify: func(body []byte, header http.Header) error {
					return github.ValidateSignature(header.Get("X-Hub-Signature"), body, key)
				},
			},
		},
		{
			module: "github.com/google/go-github/v89",
			scheme: githubSHA256,
			receiver: receiver{
				name: "go-github ValidateSignature",
				sign: signGitHub,
				verify: func(body []byte, header http.Header) error {
					return github.ValidateSignature(header.Get("X-Hub-Signature-256"), body, key)
				},
			},
		},
		{
			module: "github.com/google/go-github/v89",
			scheme: githubSHA256,
			receiver: receiver{
				name: "go-github ValidatePayload",
				sign: signGitHub,
				receive: func(_ http.ResponseWriter, r *http.Request) error {
					_, err := github.ValidatePayload(r, key)
					return err
				},
			},
		},
		{
			// ConstructEvent would decode the event, too.
			module: "github.com/stripe/stripe-go/v85",
			scheme: hmac.Compliancely(),
			receiver: receiver{
				name: "stripe-go ValidatePayload",
				sign: func(secret string, body []byte) (http.Header, error) {
					signed := stripe.GenerateTestSignedPayload(&stripe.UnsignedPayload{Payload: body, Secret: secret})
					return headers("Stripe-Signature", signed.Header), nil
				},
				verify: func(body []byte, header http.Header) error {
					return stripe.ValidatePayload(body, header.Get("Stripe-Signature"), secret)
				},
			},
		},
		{
			module: "github.com/standard-webhooks/standard-webhooks/libraries",
			scheme: base64SHA256,
			receiver: receiver{
				name:   "standard-webhooks Verify",
				sign:   signStandard("Webhook"),
				verify: standard.Verify,
			},
		},
		{
			module: "github.com/svix/svix-webhooks",
			scheme: base64SHA256,
			receiver: receiver{
				name:   "svix-webhooks Verify",
				sign:   signStandard("Svix"),
				verify: svixHook.Verify,
			},
		},
		{
			module: "github.com/slack-go/slack",
			scheme: hmac.Compliancely(),
			receiver: receiver{
				name:   "slack-go SecretsVerifier",
				sign:   signSlack,
				verify: verifySlack,
			},
		},
		{
			module: "github.com/slack-go/slack",
			scheme: hmac.Compliancely(),
			receiver: receiver{
				name: "io.ReadAll and slack-go SecretsVerifier",
				sign: signSlack,
				receive: func(_ http.ResponseWriter, r *http.Request) error {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						return err
					}
					return verifySlack(body, r.Header)
				},
			},
		},
		{
			module: "github.com/line/line-bot-sdk-go/v8",
			scheme: base64SHA256,
			receiver: receiver{
				name: "line-bot-sdk-go ValidateSignature",
				sign: signLINE,
				verify: func(body []byte, header http.Header) error {
					if !line.ValidateSignature(secret, header.Get("X-Line-Signature"), body) {
						return errors.New("refused")
					}
					return nil
				},
			},
		},
		{
			module: "github.com/line/line-bot-sdk-go/v8",
			scheme: base64SHA256,
			receiver: receiver{
				name: "line-bot-sdk-go ParseRequest",
				sign: signLINE,
				receive: func(_ http.ResponseWriter, r *http.Request) error {
					_, err := line.ParseRequest(secret, r)
					return err
				},
			},
			then: func(body []byte) error { return json.Unmarshal(body, new(line.CallbackRequest)) },
		},
		{
			module: "github.com/go-playground/webhooks/v6",
			scheme: githubSHA256,
			receiver: receiver{
				name: "go-playground/webhooks Parse",
				sign: signGitHub,
				receive: func(_ http.ResponseWriter, r *http.Request) error {
					_, err := playgroundHook.Parse(r, playground.PingEvent)
					return err
				},
			},
			then: func(body []byte) error { return json.Unmarshal(body, new(playground.PingPayload)) },
		},
	}, nil
}

// The senders. What a library has for signing is used, the rest is written
// from the sender's documentation.

func signGitHub(secret string, body []byte) (http.Header, error) {
	return headers(
		"X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac(sha256.New, secret, body)),
		"X-Hub-Signature", "sha1="+hex.EncodeToString(mac(sha1.New, secret, body)),
	), nil
}

// signStandard signs as Standard Webhooks say, which are Svix's but for the
// first word of each header's name.
func signStandard(word string) func(string, []byte) (http.Header, error) {
	return func(secret string, body []byte) (http.Header, error) {
		hook, err := standardwebhooks.NewWebhookRaw([]byte(secret))
		if err != nil {
			return nil, err
		}
		const id = "msg_0123456789"
		now := time.Now()
		value, err := hook.Sign(id, now, body)
		if err != nil {
			return nil, err
		}
		return headers(
			word+"-Id", id,
			word+"-Timestamp", strconv.FormatInt(now.Unix(), 10),
			word+"-Signature", value,
		), nil
	}
}

func signSlack(secret string, body []byte) (http.Header, error) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signed := append([]byte("v0:"+now+":"), body...)
	return headers(
		"X-Slack-Request-Timestamp", now,
		"X-Slack-Signature", "v0="+hex.EncodeToString(mac(sha256.New, secret, signed)),
	), nil
}

func verifySlack(body []byte, header http.Header) error {
	v, err := slack.NewSecretsVerifier(header, secret)
	if err != nil {
		return err
	}
	if _, err := v.Write(body); err != nil {
		return err
	}
	return v.Ensure()
}

func signLINE(secret string, body []byte) (http.Header, error) {
	return headers("X-Line-Signature", base64.StdEncoding.EncodeToString(mac(sha256.New, secret, body))), nil
}

func mac(newHash func() hash.Hash, secret string, body []byte) []byte {
	h := stdhmac.New(newHash, []byte(secret))
	h.Write(body)
	return h.Sum(nil)
}

// headers returns a header of names and values in turn.
func headers(namesAndValues ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(namesAndValues); i += 2 {
		h.Set(namesAndValues[i], namesAndValues[i+1])
	}
	return h
}
