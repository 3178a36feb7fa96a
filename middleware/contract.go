package middleware

import (
	"net/http"
	"time"
)

// Contract says what a sender expects of its receiver. It is a plain value:
// take a sender's and change a field, or fill in your own.
type Contract struct {
	Sender      string          // name in logs, metrics and Delivery, such as "haptik"
	Deadline    time.Duration   // how long the sender waits for the answer; 0: no limit known
	Probe       []string        // methods with which the sender probes the URL, unsigned: answered 200, the handler not run
	MaxResponse int64           // largest answer that the sender accepts, in bytes; 0: no limit known
	Forbidden   []int           // statuses that must never reach the sender
	Retries     []time.Duration // how long the sender waits before each further attempt
}

// Haptik returns what Haptik's webhooks expect: an answer within 5 s; six
// retries within an hour, after which Haptik disables the webhook. Source:
// https://docs.haptik.ai/webhooks/protocols.
func Haptik() Contract {
	return Contract{
		Sender:   "haptik",
		Deadline: 5 * time.Second,
		Retries: []time.Duration{
			5 * time.Second, 25 * time.Second, 125 * time.Second,
			625 * time.Second, 1410 * time.Second, 1410 * time.Second,
		},
	}
}

// Compliancely returns what Compliancely's webhooks expect: a 2xx, or they try
// twice more, after 3 and 6 minutes. Source:
// https://apideveloper.compliancely.com/docs/webhooks. No deadline is
// documented; 10 s is assumed.
func Compliancely() Contract {
	return Contract{
		Sender:   "compliancely",
		Deadline: 10 * time.Second,
		Retries:  []time.Duration{3 * time.Minute, 6 * time.Minute},
	}
}

// SalesIQ returns what Zoho SalesIQ's webhooks expect: an answer within 10 s;
// 200 to an unsigned HEAD, which SalesIQ sends when the URL is saved; and never
// a 410, which switches the webhook off. No retries are documented. Sources:
// https://www.zoho.com/salesiq/help/developer-section/zobot-webhook-authentication-2.0.html
// and https://www.zoho.com/salesiq/help/webhooks.html.
func SalesIQ() Contract {
	return Contract{
		Sender:    "salesiq",
		Deadline:  10 * time.Second,
		Probe:     []string{http.MethodHead},
		Forbidden: []int{http.StatusGone},
	}
}

// ConvoKraft returns what Zoho Catalyst ConvoKraft's webhooks expect: an
// answer within 5 s of at most 100 KB, read here as 100,000 bytes, which is
// safe whichever kilobyte is meant. No retries are documented. Source:
// https://docs.catalyst.zoho.com/en/convokraft/help/actions/bot-logic/webhooks/.
func ConvoKraft() Contract {
	return Contract{
		Sender:      "convokraft",
		Deadline:    5 * time.Second,
		MaxResponse: 100_000,
	}
}
