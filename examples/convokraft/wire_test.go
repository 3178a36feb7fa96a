package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		check      func(*request) bool
		odd        string
		wantErr    bool
	}{
		{"documented", execute, func(r *request) bool {
			return r.Todo == "execute" && r.Bot == "leave" && r.Action == "enter_leave" && r.Environment == "production" &&
				r.Params["leave_type"] == "sick" && r.UserInput == "sick" && r.User["email"] == "zoe@example.com" &&
				string(r.SessionData["medium"]) == `"chat"`
		}, "", false},
		{"button", `{"todo":"button","button_id":"b1"}`, func(r *request) bool { return r.Todo == "button" && r.ButtonID == "b1" }, "", false},
		{"numbers for strings", `{"todo":1,"bot":60012345678901234567,"params":{"days":1.50},"user":{"id":17}}`, func(r *request) bool {
			return r.Todo == "1" && r.Bot == "60012345678901234567" && r.Params["days"] == "1.50" && r.User["id"] == "17"
		}, "", false},
		{"other values for strings", `{"todo":true,"bot":null,"previousParam":{"name":"days"},"userInput":["a"],"params":{"day":{"id":1},"none":null}}`, func(r *request) bool {
			return r.Todo == "true" && r.Bot == "" && r.PreviousParam == `{"name":"days"}` && r.UserInput == `["a"]` &&
				r.Params["day"] == `{"id":1}` && r.Params["none"] == ""
		}, "", false},
		{"large numbers are kept", `{"broadcast":{"id":60012345678901234567}}`, func(r *request) bool {
			return string(r.Broadcast["id"]) == "60012345678901234567"
		}, "", false},
		{"a string for an object", `{"user":"Zoë","todo":"execute"}`, func(r *request) bool { return r.Todo == "execute" && r.User == nil }, "user", false},
		{"an array for an object", `{"cache":[],"todo":"execute"}`, func(r *request) bool { return r.Todo == "execute" && r.Cache == nil }, "cache", false},
		{"an empty string for an object", `{"todo":"execute","params":"","org":""}`, func(r *request) bool { return r.Todo == "execute" && r.Params["any"] == "" }, "params", false},
		{"unknown fields", `{"todo":"execute","more":{"and":["more"]}}`, func(r *request) bool { return r.Todo == "execute" }, "", false},
		{"an array", `["secret"]`, nil, "", true},
		{"a string", `"secret"`, nil, "", true},
		{"cut off", `{"todo":"secret`, nil, "", true},
		{"two", `{"todo":"secret"}{}`, nil, "", true},
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

func TestResponseForms(t *testing.T) {
	t.Parallel()
	withAll := tell("Please check your screen.")
	withAll.Card = list[object]{{"type": "link"}}
	withAll.Data = object{"a": 1}
	withAll.Broadcast = object{"id": json.RawMessage("60012345678901234567")}
	withAll.Trigger = object{"b": 2}
	withAll.FollowUp = object{"c": 3}
	buttons := ask("leave_type", "Which?")
	buttons.Prompt.Buttons = list[object]{{"label": "Other"}}
	for _, tt := range []struct {
		response response
		want     string
	}{
		{tell("Hi"), `{"status":"execution","message":"Hi","card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`},
		{withAll, `{"status":"execution","message":"Please check your screen.","card":[{"type":"link"}],"data":{"a":1},` +
			`"broadcast":{"id":60012345678901234567},"trigger":{"b":2},"followup":{"c":3}}`},
		{ask("leave_type", "Which?", option{"111", "Sick", "https://example.com/s.png"}, option{ID: "112", Label: "Casual"}),
			`{"status":"prompt","prompt":{"param_name":"leave_type","options":[{"id":"111","label":"Sick","image":"https://example.com/s.png"},` +
				`{"id":"112","label":"Casual"}],"buttons":[]},"message":"Which?","data":{}}`},
		{buttons, `{"status":"prompt","prompt":{"param_name":"leave_type","options":[],"buttons":[{"label":"Other"}]},"message":"Which?","data":{}}`},
	} {
		got, err := json.Marshal(tt.response)
		require.NoError(t, err)
		assert.JSONEq(t, tt.want, string(got))
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	const limit = 1000
	full := tell("")
	full.Data = object{"blob": strings.Repeat("x", limit)}
	broken := tell("x")
	broken.Data = object{"f": func() {}}
	tests := []struct {
		name     string
		response response
		wantCut  bool
		wantOver bool
	}{
		{"short", tell("Hi"), false, false},
		{"just fits", tell(strings.Repeat("x", limit-len(`{"status":"execution","message":"","card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`))), false, false},
		{"one too many", tell(strings.Repeat("x", 1+limit-len(`{"status":"execution","message":"","card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`))), true, false},
		{"long", tell(strings.Repeat("x", 10*limit)), true, false},
		{"long in JSON only", tell(strings.Repeat("<", limit/2)), true, false},
		{"characters of several bytes", tell(strings.Repeat("ö€𝄞", limit)), true, false},
		{"prompt", ask("p", strings.Repeat("x", 10*limit), option{ID: "1"}), true, false},
		{"no message to cut", full, false, true},
		{"too large whatever is cut", full.withMessage(strings.Repeat("x", limit)), false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := encode(tt.response, limit)
			require.NoError(t, err)
			assert.Equal(t, tt.wantOver, len(body) > limit, "%d bytes", len(body))
			var got struct{ Message string }
			require.NoError(t, json.Unmarshal(body, &got))
			cut, shortened := strings.CutSuffix(got.Message, "…")
			assert.Equal(t, tt.wantCut, shortened)
			assert.True(t, strings.HasPrefix(tt.response.message(), cut))
			assert.True(t, utf8.ValidString(got.Message))
			if tt.wantCut {
				assert.Greater(t, len(body), limit-10, "no more is cut than need be")
			}
		})
	}
	_, err := encode(broken, limit)
	require.Error(t, err)
	body, err := encode(tell(strings.Repeat("x", limit)), 0)
	require.NoError(t, err)
	assert.Greater(t, len(body), limit, "0 is no limit")
}
