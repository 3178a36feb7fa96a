package main

import (
	"encoding/json"
	"net/http"
	"sort"

	"github.com/hooktrust/hooktrust/middleware"
)

// response is what the bot says: a prompt or an execution. More about both is
// at https://docs.catalyst.zoho.com/en/convokraft/help/actions/define-bot-responses/.
type response interface {
	message() string                     // what the user reads
	withMessage(message string) response // the same with another message
}

// ask is a prompt: it asks the user for a parameter, with options to choose
// from, or none.
func ask(param, message string, options ...option) prompt {
	return prompt{Prompt: question{ParamName: param, Options: options}, Message: message}
}

// tell is an execution that only shows a message.
func tell(message string) execution { return execution{Message: message} }

// prompt asks the user for a parameter of the action.
type prompt struct {
	Prompt  question `json:"prompt"`
	Message string   `json:"message"`
	Data    object   `json:"data"`
}

type question struct {
	ParamName string       `json:"param_name"`
	Options   list[option] `json:"options"`
	Buttons   list[object] `json:"buttons"`
}

type option struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Image string `json:"image,omitempty"` // its URL
}

// execution shows the user a message.
type execution struct {
	Message   string       `json:"message"`
	Card      list[object] `json:"card"`
	Data      object       `json:"data"`
	Broadcast object       `json:"broadcast"` // what later actions of this session are to know
	Trigger   object       `json:"trigger"`
	FollowUp  object       `json:"followup"`
}

func (p prompt) message() string    { return p.Message }
func (e execution) message() string { return e.Message }

func (p prompt) withMessage(message string) response    { p.Message = message; return p }
func (e execution) withMessage(message string) response { e.Message = message; return e }

// MarshalJSON adds the status, which tells ConvoKraft which of the two it is.
func (p prompt) MarshalJSON() ([]byte, error) {
	type plain prompt // without this method
	return json.Marshal(struct {
		Status string `json:"status"`
		plain
	}{"prompt", plain(p)})
}

// MarshalJSON adds the status, which tells ConvoKraft which of the two it is.
func (e execution) MarshalJSON() ([]byte, error) {
	type plain execution // without this method
	return json.Marshal(struct {
		Status string `json:"status"`
		plain
	}{"execution", plain(e)})
}

// object is a JSON object, and {} if it is nil.
type object map[string]any

func (o object) MarshalJSON() ([]byte, error) {
	if o == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]any(o))
}

// list is a JSON array, and [] if it is nil.
type list[T any] []T

func (l list[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// encode returns r as JSON of at most limit bytes, its message cut short if
// that is what it takes. If it is not, because options, cards or data are too
// large, the JSON is longer than limit: only you know what of those can be left
// out.
func encode(r response, limit int64) ([]byte, error) {
	whole, err := json.Marshal(r)
	if err != nil || limit <= 0 || int64(len(whole)) <= limit {
		return whole, err
	}
	// How long a character is in JSON depends on the character, so the cut is
	// searched for.
	message := []rune(r.message())
	fitting := whole
	sort.Search(len(message), func(n int) bool {
		body, err := json.Marshal(r.withMessage(string(message[:n]) + "…"))
		if err != nil || int64(len(body)) > limit {
			return true
		}
		fitting = body // longer than what has fitted before
		return false
	})
	return fitting, nil
}

// write makes r the answer to the delivery.
func write(w http.ResponseWriter, r response) {
	body, err := encode(r, middleware.ConvoKraft().MaxResponse)
	if err != nil { // a card or data has something that JSON cannot hold
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// Fails if the answer is still larger than ConvoKraft accepts, which Observe
	// is told, or if ConvoKraft has gone, and then nobody is left to tell.
	_, _ = w.Write(body)
}
