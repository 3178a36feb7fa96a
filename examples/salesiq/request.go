package main

import (
	"encoding/json"
	"errors"
)

// request is what SalesIQ asks the bot. The names are those of
// https://www.zoho.com/salesiq/help/developer-section/zobot-webhook-request-response-format.html;
// what else a delivery has is ignored. Their types are documented loosely, and
// pages differ, so decoding survives others than these.
type request struct {
	Handler   text            `json:"handler"`   // why the bot is called: "trigger", "message", "context", …
	Operation text            `json:"operation"` // "chat" for the first message of a conversation, then "message"
	OrgID     text            `json:"org_id"`
	Message   message         `json:"message"` // with the handler "message"
	Visitor   visitor         `json:"visitor"`
	ContextID text            `json:"context_id"` // with the handler "context"
	Answers   json.RawMessage `json:"answers"`    // with the handler "context": what the visitor answered
	Request   struct {
		ID text `json:"id"` // names this request in the API that takes answers later
	} `json:"request"`
	Attachments []json.RawMessage `json:"attachments"`
}

// visitor is who the bot talks to, as far as SalesIQ knows: any field may be "".
type visitor struct {
	ID      text `json:"visitor_id"`
	Name    text `json:"name"`
	Email   text `json:"email"`
	Phone   text `json:"phone"`
	Channel text `json:"channel"`
}

// decode reads a request from a verified body. A field of another type than
// expected stays empty, and its name is returned, for the log. The error is for
// what is no JSON object at all; it contains none of the body.
func decode(body []byte) (req *request, odd string, err error) {
	req = new(request)
	err = json.Unmarshal(body, req)
	if typeErr, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && typeErr.Field != "" {
		// Unmarshal has gone on and filled in the rest. The error itself may
		// quote the value, which is the visitor's.
		return req, typeErr.Field, nil
	}
	if err != nil {
		return nil, "", errors.New("the body is not a JSON object")
	}
	return req, "", nil
}

// text is a string, whatever JSON has in its place: a number is its digits,
// true and false are words, null is "", and an object or array is its JSON.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) != "null" {
		*t = text(b)
	}
	return nil
}

// message is what the visitor wrote: documented as an object with a text on
// one page and as a string on another.
type message struct {
	Text text `json:"text"`
}

func (m *message) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		type plain message // without this method
		return json.Unmarshal(b, (*plain)(m))
	}
	return m.Text.UnmarshalJSON(b)
}
