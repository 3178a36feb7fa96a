package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// chatCompleteBody has the types that Haptik's examples of other events have:
// some ids are numbers, and an agent's e-mail may be null.
const chatCompleteBody = `{
	"version": "1.0",
	"timestamp": "2019-07-03T11:42:44.077Z",
	"business_id": 343,
	"business_name": "Shoes & Söhne",
	"event_name": "webhook_agent_chat_complete",
	"user": {
		"auth_id": "a-17", "device_platform": "5", "device_platform_name": "android",
		"user_name": "Asha", "user_id": "u-9", "phone_model": "P", "os_version": "14", "package_name": "com.example"
	},
	"agent": {
		"name": "Prateek", "username": "prateek", "profile_image": "https://example.com/p.jpg",
		"id": 235, "email": null, "is_automated": false
	},
	"data": {
		"collection_id": "c-1", "conversation_no": 4711, "conversation_identifier": "x-4711",
		"chat_link": "https://example.com/c", "complete_chat_link": "https://example.com/cc",
		"closing_categories": {"reason": "solved"}
	}
}`

const conversationBody = `{"event_name":"webhook_conversation_complete_partial","timestamp":"2019-07-03T11:42:45.000Z","data":{"conversation_no":"4712"}}`

func TestDecodeHasEveryField(t *testing.T) {
	got, err := decode([]byte(chatCompleteBody))
	require.NoError(t, err)
	assert.Equal(t, &event{
		Version: "1.0", Timestamp: "2019-07-03T11:42:44.077Z",
		BusinessID: "343", BusinessName: "Shoes & Söhne", Name: agentChatComplete,
		User: user{
			AuthID: "a-17", DevicePlatform: "5", DevicePlatformName: "android",
			Name: "Asha", ID: "u-9", PhoneModel: "P", OSVersion: "14", PackageName: "com.example",
		},
		Agent: agent{
			Name: "Prateek", Username: "prateek", ProfileImage: "https://example.com/p.jpg",
			ID: "235", Email: "", IsAutomated: "false",
		},
		Data: data{
			CollectionID: "c-1", ConversationNo: "4711", ConversationIdentifier: "x-4711",
			ChatLink: "https://example.com/c", CompleteChatLink: "https://example.com/cc",
			ClosingCategories: json.RawMessage(`{"reason": "solved"}`),
		},
	}, got)
}

// TestDecodeSurvivesOtherTypes puts every JSON type in the place of every
// scalar, and looks at the fields after it.
func TestDecodeSurvivesOtherTypes(t *testing.T) {
	values := []struct{ name, json, want string }{
		{"string", `"4711"`, "4711"},
		{"escaped string", `"\u0041\n\"é"`, "A\n\"é"},
		{"empty string", `""`, ""},
		{"number", `4711`, "4711"},
		{"number too large for a float", `9007199254740993`, "9007199254740993"},
		{"number with an exponent", `-1.5e3`, "-1.5e3"},
		{"true", `true`, "true"},
		{"false", `false`, "false"},
		{"null", `null`, ""},
		{"array", `[1, "a"]`, `[1,"a"]`},
		{"object", `{"a": [null, {}]}`, `{"a":[null,{}]}`},
	}
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(chatCompleteBody), &fields))
	names := 0
	for _, v := range values {
		t.Run(v.name, func(t *testing.T) {
			body, want := chatCompleteBody, []string{}
			for _, part := range []any{fields, fields["user"], fields["agent"], fields["data"]} {
				for name, value := range part.(map[string]any) {
					if _, isObject := value.(map[string]any); isObject || name == "event_name" {
						continue
					}
					old, err := json.Marshal(value)
					require.NoError(t, err)
					oldField := `"` + name + `": ` + strings.ReplaceAll(string(old), `\u0026`, "&")
					require.Equal(t, 1, strings.Count(body, oldField), oldField)
					body = strings.Replace(body, oldField, `"`+name+`": `+v.json, 1)
					want = append(want, v.want)
					names++
				}
			}
			e, err := decode([]byte(body))
			require.NoError(t, err)
			assert.Empty(t, e.notObject)
			assert.Equal(t, agentChatComplete, string(e.Name))
			assert.JSONEq(t, `{"reason": "solved"}`, string(e.Data.ClosingCategories))
			assert.Equal(t, want, scalars(e))
		})
	}
	assert.Equal(t, len(values)*23, names, "scalars replaced")
}

// scalars returns all of e's but its name.
func scalars(e *event) []string {
	var all []string
	for _, v := range []text{
		e.Version, e.Timestamp, e.BusinessID, e.BusinessName,
		e.User.AuthID, e.User.DevicePlatform, e.User.DevicePlatformName, e.User.Name, e.User.ID, e.User.PhoneModel, e.User.OSVersion, e.User.PackageName,
		e.Agent.Name, e.Agent.Username, e.Agent.ProfileImage, e.Agent.ID, e.Agent.Email, e.Agent.IsAutomated,
		e.Data.CollectionID, e.Data.ConversationNo, e.Data.ConversationIdentifier, e.Data.ChatLink, e.Data.CompleteChatLink,
	} {
		all = append(all, string(v))
	}
	return all
}

func TestDecodeOddEvents(t *testing.T) {
	tests := []struct {
		name, body string
		want       event
	}{
		{"empty object", `{}`, event{}},
		{"null", `null`, event{}},
		{"new fields are ignored", `{"event_name":"n","new":{"a":1},"data":{"new":[1],"conversation_no":7}}`, event{Name: "n", Data: data{ConversationNo: "7"}}},
		{"parts are null", `{"user":null,"agent":null,"data":null,"event_name":"n"}`, event{Name: "n"}},
		{"user is a string", `{"user":"Asha","event_name":"n","data":{"conversation_no":7}}`, event{Name: "n", Data: data{ConversationNo: "7"}, notObject: "user"}},
		{"data is an array", `{"data":[{"conversation_no":7}],"event_name":"n"}`, event{Name: "n", notObject: "data"}},
		{"two are numbers", `{"agent":5,"data":6,"event_name":"n"}`, event{Name: "n", notObject: "agent"}},
		{"closing categories are a list", `{"data":{"closing_categories":["a"]}}`, event{Data: data{ClosingCategories: json.RawMessage(`["a"]`)}}},
		{"half a surrogate pair", `{"event_name":"\ud800"}`, event{Name: "\ufffd"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := decode([]byte(test.body))
			require.NoError(t, err)
			assert.Equal(t, &test.want, got)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	const notJSON, notObject = `^the body is not JSON: see byte \d+$`, `^the body is not a JSON object$`
	tests := []struct{ name, body, want string }{
		{"nothing", ``, notJSON},
		{"cut off", `{"event_name":"Asha`, notJSON},
		{"not JSON", `Asha`, notJSON},
		{"two values", `{"event_name":"a"} Asha`, notJSON},
		{"array", `["Asha"]`, notObject},
		{"string", `"Asha"`, notObject},
		{"number", `4711`, notObject},
		{"nested too deeply", strings.Repeat(`{"data":`, 20_000), notJSON},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, err := decode([]byte(test.body))
			require.Error(t, err)
			assert.Nil(t, e)
			assert.Regexp(t, test.want, err.Error()) // and nothing of the body
		})
	}
}

func TestIsTrue(t *testing.T) {
	for value, want := range map[string]bool{
		`true`: true, `"true"`: true, `"True"`: true, `1`: true, `"1"`: true,
		`false`: false, `"false"`: false, `0`: false, `null`: false, `""`: false, `"bot"`: false, `2`: false, `[true]`: false,
	} {
		e, err := decode([]byte(`{"agent":{"is_automated":` + value + `}}`))
		require.NoError(t, err)
		assert.Equal(t, want, e.Agent.IsAutomated.isTrue(), value)
	}
}
