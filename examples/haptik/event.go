package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Names of the events. The first two are one event: Haptik's documentation has
// both names for it.
const (
	agentChatComplete           = "webhook_agent_chat_complete"
	agentChatClose              = "webhook_agent_chat_close"
	conversationCompletePartial = "webhook_conversation_complete_partial"
)

// event is what Haptik delivers: both events have the same fields. Any of them
// may be missing, and Haptik adds new ones, which are ignored: add here what
// you need.
//
// Which type a field has is not documented, so none depends on it; see text.
type event struct {
	Version      text  `json:"version"`
	Timestamp    text  `json:"timestamp"` // such as 2019-07-03T11:42:44.077Z
	BusinessID   text  `json:"business_id"`
	BusinessName text  `json:"business_name"`
	Name         text  `json:"event_name"`
	User         user  `json:"user"`
	Agent        agent `json:"agent"`
	Data         data  `json:"data"`

	// notObject is the path of the first part that should be an object and is
	// something else; "" if there is none. Such a part is left empty.
	notObject string
}

type user struct {
	AuthID             text `json:"auth_id"` // your own id of the user
	DevicePlatform     text `json:"device_platform"`
	DevicePlatformName text `json:"device_platform_name"`
	Name               text `json:"user_name"`
	ID                 text `json:"user_id"`
	PhoneModel         text `json:"phone_model"`
	OSVersion          text `json:"os_version"`
	PackageName        text `json:"package_name"`
}

type agent struct {
	Name         text `json:"name"`
	Username     text `json:"username"`
	ProfileImage text `json:"profile_image"`
	ID           text `json:"id"`
	Email        text `json:"email"`
	IsAutomated  text `json:"is_automated"` // a bot: see text.isTrue
}

type data struct {
	CollectionID           text            `json:"collection_id"`
	ConversationNo         text            `json:"conversation_no"`
	ConversationIdentifier text            `json:"conversation_identifier"`
	ChatLink               text            `json:"chat_link"`
	CompleteChatLink       text            `json:"complete_chat_link"`
	ClosingCategories      json.RawMessage `json:"closing_categories"` // nil if missing; elsewhere Haptik documents an object
}

// text is a string that may come as any JSON value. A number keeps the digits
// that were sent, so that no id is rounded; true and false become "true" and
// "false"; null is "". An array or an object becomes its JSON without blanks:
// one field that has changed its form must not cost the whole event, and what
// it holds is not lost either.
type text string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *text) UnmarshalJSON(value []byte) error {
	switch value[0] {
	case 'n':
		*t = ""
	case '"':
		return json.Unmarshal(value, (*string)(t))
	case '{', '[':
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil {
			return err
		}
		*t = text(compact.String())
	default:
		*t = text(value)
	}
	return nil
}

// isTrue reports whether t is true, "true", 1 or "1".
func (t text) isTrue() bool {
	b, err := strconv.ParseBool(string(t))
	return err == nil && b
}

// decode returns the event in body. It fails only if body is not JSON or not
// an object, and its error shows nothing of body.
func decode(body []byte) (*event, error) {
	var e event
	err := json.Unmarshal(body, &e)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return nil, errors.New("the body is not a JSON object")
		}
		// json goes on after this error, so the other fields are there.
		e.notObject, err = wrong.Field, nil
	}
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, fmt.Errorf("the body is not JSON: see byte %d", wrong.Offset) // its own text quotes the byte
	}
	if err != nil {
		return nil, errors.New("the body cannot be decoded")
	}
	return &e, nil
}
