package main

import (
	"encoding/json"
	"errors"
)

// request is what ConvoKraft asks for. The names are those of
// https://docs.catalyst.zoho.com/en/convokraft/help/actions/bot-logic/webhooks/;
// what else a delivery has is ignored. That page does not give their types, so
// decoding survives others than these.
type request struct {
	Todo          text `json:"todo"` // "prompt", "execute", "fallback" or "button"
	Bot           text `json:"bot"`
	Action        text `json:"action"`
	ButtonID      text `json:"button_id"`   // with "button"
	Environment   text `json:"environment"` // "development" or "production"
	UserInput     text `json:"userInput"`
	PreviousParam text `json:"previousParam"` // the parameter asked for last; if it is an object, its JSON

	Params texts `json:"params"` // what the user has said so far
	User   texts `json:"user"`
	Org    texts `json:"org"`

	Broadcast   values `json:"broadcast"` // from earlier actions of this session
	Cache       values `json:"cache"`     // from earlier calls for this action
	SessionData values `json:"sessionData"`
	ClientData  values `json:"clientData"`
}

// texts is an object whose values are read as strings.
type texts map[string]text

// values is an object whose values are left as they are, so that they can be
// sent back without a digit lost.
type values map[string]json.RawMessage

// decode reads a request from a verified body. A field of another type than
// expected stays empty, and its name is returned, for the log. The error is for
// what is no JSON object at all; it contains none of the body.
func decode(body []byte) (req *request, odd string, err error) {
	req = new(request)
	err = json.Unmarshal(body, req)
	if typeErr, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && typeErr.Field != "" {
		// Unmarshal has gone on and filled in the rest. The error itself may
		// quote the value, which is the user's.
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
