package openc2_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/platelet-sdn/platelet/controller/openc2"
)

func schema(t testing.TB, of string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "slpf-1.0.schema.json") + "#/$defs/" + of)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func valid(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// Commands of the shape of those in the profile's specification (annex of examples)
// and in the tests of the OpenC2 TC: each is done as it is meant, or answered with
// 501. Never is one done by halves, and every answer is a response of the language.
func TestConformance(t *testing.T) {
	command, answer := schema(t, "command"), schema(t, "response")
	for name, c := range map[string]struct {
		command string
		status  int
		asked   string
	}{
		"deny an IPv4 connection with its port": {`{"action":"deny","target":{"ipv4_connection":{"protocol":"tcp","src_addr":"10.0.0.9","src_port":10996,"dst_addr":"198.2.3.4","dst_port":80}},
			"args":{"start_time":1534775460000,"duration":500,"response_requested":"ack","slpf":{"drop_process":"none"}},"actuator":{"slpf":{"asset_id":"30"}}}`, 501, ""},
		"deny an IPv4 connection": {`{"action":"deny","target":{"ipv4_connection":{"protocol":"tcp","src_addr":"10.0.0.9","dst_addr":"198.2.3.4","dst_port":80}},
			"args":{"duration":120000,"response_requested":"complete","slpf":{"drop_process":"none","direction":"both","persistent":false}},"command_id":"x"}`, 200,
			`contain 10.0.0.9 from "198.2.3.4" 6/80 for 2m0s by openc2 soar`},
		"deny an IPv6 connection": {`{"action":"deny","target":{"ipv6_connection":{"protocol":"udp","src_addr":"3ffe:1900:4545:3::7","dst_port":53}},"args":{"duration":60000}}`, 200,
			`contain 3ffe:1900:4545:3::7 from "" 17/53 for 1m0s by openc2 soar`},
		"deny an IPv6 net one way": {`{"action":"deny","target":{"ipv6_net":"3ffe:1900:4545:3:200:f8ff:fe21:67cf"},"args":{"response_requested":"none","slpf":{"direction":"ingress"}},
			"actuator":{"slpf":{"named_group":"perimeter"}}}`, 501, ""},
		"allow at a place in the list": {`{"action":"allow","target":{"ipv6_connection":{"protocol":"tcp","dst_addr":"3ffe:1900:4545:3::cf","src_port":21}},
			"args":{"slpf":{"insert_rule":1234}}}`, 501, ""},
		"delete":                 {`{"action":"delete","target":{"slpf:rule_number":42},"args":{"response_requested":"complete"}}`, 200, "release d-00000000002a by openc2 soar"},
		"delete what is not":     {`{"action":"delete","target":{"slpf:rule_number":1234}}`, 404, ""},
		"update":                 {`{"action":"update","target":{"file":{"path":"/share/rules","name":"list.txt"}},"args":{"response_requested":"ack"}}`, 501, ""},
		"query nothing":          {`{"action":"query","target":{"features":[]}}`, 200, ""},
		"query all":              {`{"action":"query","target":{"features":["versions","profiles","pairs","rate_limit"]}}`, 200, ""},
		"query what has no word": {`{"action":"query","target":{"features":["rate_limit"]}}`, 200, ""},
		"a guard says no":        {`{"action":"deny","target":{"ipv4_net":"10.0.0.1/32"}}`, 403, ""},
	} {
		d := &desk{}
		if err := valid(t, command, c.command); err != nil {
			t.Errorf("%s is no command: %v", name, err)
		}
		status, text := send(t, openc2.New(d, openc2.Tokens{"soar": token}), c.command)
		if err := valid(t, answer, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		if asked := strings.Join(d.asked, "; "); status != c.status || asked != c.asked {
			t.Errorf("%s: %d %s; asked %q", name, status, text, asked)
		}
	}
	for name, c := range map[string]string{ // none of these is a command
		"no direction": `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"slpf":{"direction":"up"}}}`,
		"no process":   `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"slpf":{"drop_process":"maybe"}}}`,
		"two profiles": `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"actuator":{"slpf":{},"x-acme":{}}}`,
		"no specifier": `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"actuator":{"slpf":{"colour":"red"}}}`,
		"no object":    `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"actuator":{"slpf":7}}`,
		"no feature":   `{"action":"query","target":{"features":["speed"]}}`,
		"no action":    `{"action":"make","target":{"ipv4_net":"10.0.0.9"}}`,
	} {
		d := &desk{}
		if valid(t, command, c) == nil {
			t.Errorf("%s is a command to the schema", name)
		}
		status, text := send(t, openc2.New(d, openc2.Tokens{"soar": token}), c)
		if err := valid(t, answer, text); err != nil || status == 200 || len(d.asked) > 0 {
			t.Errorf("%s: %d %s, asked %v: %v", name, status, text, d.asked, err)
		}
	}
}
