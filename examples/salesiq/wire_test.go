package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnswerForms(t *testing.T) {
	t.Parallel()
	picture := answer{Action: "reply", Replies: []reply{{Text: "Here.", Image: "https://example.com/a.png"}, {Text: "Nice?"}}}
	sales := forward("One moment.")
	sales.Department = "3465000000005"
	for _, tt := range []struct {
		answer answer
		want   string
	}{
		{say("a", "b"), `{"action":"reply","replies":["a","b"]}`},
		{pending(), `{"action":"pending"}`},
		{pending("wait"), `{"action":"pending","replies":["wait"]}`},
		{forward("wait"), `{"action":"forward","replies":["wait"]}`},
		{sales, `{"action":"forward","replies":["One moment."],"department":"3465000000005"}`},
		{end("bye"), `{"action":"end","replies":["bye"]}`},
		{picture, `{"action":"reply","replies":[{"text":"Here.","image":"https://example.com/a.png"},"Nice?"]}`},
	} {
		got, err := json.Marshal(tt.answer)
		require.NoError(t, err)
		assert.JSONEq(t, tt.want, string(got))
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		check      func(*request) bool
		odd        string
		wantErr    bool
	}{
		{"documented", question, func(r *request) bool {
			return r.Handler == "message" && r.Operation == "chat" && r.OrgID == "60012345" && r.Request.ID == "4fhgtd-gyywye6" &&
				r.Visitor == visitor{ID: "17", Name: "Zoë"} && r.Message.Text == "Where's my order?"
		}, "", false},
		{"numbers for strings", `{"handler":7,"org_id":60012345678901234567,"visitor":{"phone":49170},"message":{"text":4711}}`, func(r *request) bool {
			return r.Handler == "7" && r.OrgID == "60012345678901234567" && r.Visitor.Phone == "49170" && r.Message.Text == "4711"
		}, "", false},
		{"message is a number", `{"message":4711}`, func(r *request) bool { return r.Message.Text == "4711" }, "", false},
		{"message is a string", `{"message":"\u00e9\n"}`, func(r *request) bool { return r.Message.Text == "é\n" }, "", false},
		{"message is null", `{"message":null}`, func(r *request) bool { return r.Message.Text == "" }, "", false},
		{"other values for strings", `{"handler":true,"operation":null,"org_id":{"id":1},"context_id":["a"]}`, func(r *request) bool {
			return r.Handler == "true" && r.Operation == "" && r.OrgID == `{"id":1}` && r.ContextID == `["a"]`
		}, "", false},
		{"a string for an object", `{"visitor":"Zoë","handler":"message"}`, func(r *request) bool {
			return r.Handler == "message" && r.Visitor == visitor{}
		}, "visitor", false},
		{"a number for an object", `{"request":12,"handler":"message"}`, func(r *request) bool {
			return r.Handler == "message" && r.Request.ID == ""
		}, "request", false},
		{"unknown fields", `{"handler":"message","more":{"and":["more"]}}`, func(r *request) bool { return r.Handler == "message" }, "", false},
		{"an array", `["secret"]`, nil, "", true},
		{"a string", `"secret"`, nil, "", true},
		{"cut off", `{"handler":"secret`, nil, "", true},
		{"two", `{"handler":"secret"}{}`, nil, "", true},
		{"nothing", ``, nil, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, odd, err := decode([]byte(tt.body))
			if tt.wantErr {
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.odd, odd)
			assert.True(t, tt.check(req), "%+v", req)
		})
	}
}
