package main

import (
	"encoding/json"
	"net/http"
)

// answer is what the bot does next. Its functions below make the four kinds.
// https://www.zoho.com/salesiq/help/developer-section/zobot-webhook-request-response-format.html
// leads to what else an answer can have, such as input cards.
type answer struct {
	Action      string   `json:"action"`
	Replies     []reply  `json:"replies,omitempty"`
	Suggestions []string `json:"suggestions,omitempty"` // to click on instead of writing
	Department  string   `json:"department,omitempty"`  // with forward: the ID of whom to
}

// say is an answer of one or more messages.
func say(texts ...string) answer { return answer{Action: "reply", Replies: replies(texts)} }

// pending tells the visitor that the answer follows. SalesIQ takes it through
// its API, which needs the request's ID.
func pending(texts ...string) answer { return answer{Action: "pending", Replies: replies(texts)} }

// forward hands the conversation to a human.
func forward(texts ...string) answer { return answer{Action: "forward", Replies: replies(texts)} }

// end ends the conversation.
func end(texts ...string) answer { return answer{Action: "end", Replies: replies(texts)} }

// reply is a message with or without a picture.
type reply struct {
	Text  string `json:"text"`
	Image string `json:"image,omitempty"` // its URL
}

func replies(texts []string) []reply {
	all := make([]reply, len(texts))
	for i, t := range texts {
		all[i].Text = t
	}
	return all
}

// MarshalJSON writes a message without a picture as a string.
func (r reply) MarshalJSON() ([]byte, error) {
	if r.Image == "" {
		return json.Marshal(r.Text)
	}
	type plain reply // without this method
	return json.Marshal(plain(r))
}

// write makes a the answer to the delivery.
func write(w http.ResponseWriter, a answer) {
	body, err := json.Marshal(a)
	if err != nil { // no answer has anything that JSON cannot hold, unless you add it
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // fails only if SalesIQ has gone, and then nobody is left to tell
}
