package openc2_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openc2"
	"github.com/platelet-sdn/platelet/controller/response"
)

// desk does nothing and writes down what it is asked.
type desk struct {
	mu    sync.Mutex
	asked []string
}

func (d *desk) note(format string, a ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, fmt.Sprintf(format, a...))
}

func (d *desk) Contain(_ context.Context, o response.Order) (string, error) {
	if o.Host.String() == "10.0.0.1" {
		return "", fmt.Errorf("contain: protected asset: %w", response.ErrState)
	}
	peer := ""
	if o.Peer.IsValid() {
		peer = o.Peer.String()
	}
	d.note("contain %s from %q %d/%d for %s by %s", o.Host, peer, o.Proto, o.Service, o.For.Round(time.Minute), o.Who)
	return "d-00000000002a", nil
}

func (d *desk) Release(_ context.Context, id, who, _ string) error {
	if id != "d-00000000002a" {
		return fmt.Errorf("%w: %s", response.ErrNotFound, id)
	}
	d.note("release %s by %s", id, who)
	return nil
}

func (d *desk) Exempt(_ context.Context, x response.Exemption) error {
	d.note("exempt %v for %s by %s", x.Hosts, time.Until(x.Until).Round(time.Minute), x.Who)
	return nil
}

const token = "0123456789abcdef0123"

func send(t *testing.T, h http.Handler, body string, edit ...func(*http.Request)) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, openc2.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/openc2-cmd+json;version=1.0")
	r.Header.Set("Authorization", "Bearer "+token)
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var a struct{ Status int }
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a.Status != w.Code {
		t.Errorf("%d answers %s: %v", w.Code, w.Body, err)
	}
	if have := w.Header().Get("Content-Type"); have != "application/openc2-rsp+json;version=1.0" {
		t.Errorf("content type %q", have)
	}
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestCommands(t *testing.T) {
	later := time.Now().Add(10 * time.Minute).UnixMilli()
	for _, c := range []struct {
		name, command string
		status        int
		asked, text   string
	}{
		{"deny a host", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"duration":600000}}`, 200,
			`contain 10.0.0.9 from "" 0/0 for 10m0s by openc2 soar`, `"rule_number":42`},
		{"deny a net of one", `{"action":"deny","target":{"ipv6_net":"fd00::9/128"}}`, 200, `contain fd00::9 from "" 0/0 for 1h0m0s by openc2 soar`, ""},
		{"deny until", fmt.Sprintf(`{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"stop_time":%d}}`, later), 200,
			`contain 10.0.0.9 from "" 0/0 for 10m0s by openc2 soar`, ""},
		{"deny a service", `{"action":"deny","target":{"ipv4_connection":{"protocol":"tcp","src_addr":"10.0.0.9","dst_addr":"10.0.0.2","dst_port":22}},"actuator":{"slpf":{}}}`, 200,
			`contain 10.0.0.9 from "10.0.0.2" 6/22 for 1h0m0s by openc2 soar`, ""},
		{"allow", `{"action":"allow","target":{"ipv4_net":"10.0.0.9/32"},"args":{"duration":1800000,"response_requested":"none"}}`, 200,
			`exempt [10.0.0.9/32] for 30m0s by openc2 soar`, ""},
		{"delete", `{"action":"delete","target":{"slpf:rule_number":42}}`, 200, "release d-00000000002a by openc2 soar", ""},
		{"delete nothing", `{"action":"delete","target":{"slpf:rule_number":43}}`, 404, "", "no such decision"},
		{"query", `{"action":"query","target":{"features":["versions","pairs"]}}`, 200, "", `"deny":["ipv4_net"`},
		{"query nothing", `{"action":"query","target":{"features":[]}}`, 200, "", ""},

		{"a guard says no", `{"action":"deny","target":{"ipv4_net":"10.0.0.1"}}`, 403, "", "protected asset"},
		{"one way", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"slpf":{"direction":"ingress"}}}`, 501, "", "direction"},
		{"many hosts", `{"action":"deny","target":{"ipv4_net":"10.0.0.0/24"}}`, 501, "", "one by one"},
		{"with a notice", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"slpf":{"drop_process":"reject"}}}`, 501, "", "drop_process"},
		{"later", fmt.Sprintf(`{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"start_time":%d}}`, later), 501, "", "start_time"},
		{"allow a connection", `{"action":"allow","target":{"ipv4_connection":{"src_addr":"10.0.0.9","dst_addr":"10.0.0.2"}}}`, 501, "", "as a whole"},
		{"update", `{"action":"update","target":{"file":{"name":"x"}}}`, 501, "", "update of file"},
		{"another profile", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"actuator":{"x-acme":{}}}`, 404, "", "x-acme"},
		{"two targets", `{"action":"deny","target":{"ipv4_net":"10.0.0.9","ipv6_net":"fd00::1"}}`, 400, "", "one target"},
		{"the wrong family", `{"action":"deny","target":{"ipv4_net":"fd00::1"}}`, 400, "", "family"},
		{"no address", `{"action":"deny","target":{"ipv4_net":"host"}}`, 400, "", "host"},
		{"for ever", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"duration":99999999999999}}`, 400, "", "duration"},
		{"nobody's connection", `{"action":"deny","target":{"ipv4_connection":{"dst_addr":"10.0.0.2"}}}`, 501, "", "src_addr"},
		{"a port of nothing", `{"action":"deny","target":{"ipv4_connection":{"src_addr":"10.0.0.9","dst_port":22}}}`, 400, "", "protocol"},
		{"unknown member", `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"force":true}`, 400, "", "force"},
		{"half", `{"action":"deny","target":{"ipv4_net"`, 400, "", "offset"},
		{"more", `{"action":"query","target":{"features":[]}} {}`, 400, "", "follows"},
		{"too much", strings.Repeat(" ", 1<<17), 400, "", "large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{}
			status, text := send(t, openc2.New(d, openc2.Tokens{"other": "another-token-of-20-", "soar": token}), c.command)
			if asked := strings.Join(d.asked, "; "); status != c.status || asked != c.asked || !strings.Contains(text, c.text) {
				t.Errorf("%d %s; asked %q, want %d, %q and %q", status, text, asked, c.status, c.text, c.asked)
			}
		})
	}
}

func TestStrangersAreNotHeard(t *testing.T) {
	d := &desk{}
	h := openc2.New(d, openc2.Tokens{"soar": token})
	const deny = `{"action":"deny","target":{"ipv4_net":"10.0.0.9"}}`
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
	}{
		"no token":     {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"wrong token":  {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[1:]) }, 401},
		"another way":  {func(r *http.Request) { r.Header.Set("Authorization", token) }, 401},
		"got":          {func(r *http.Request) { r.Method = http.MethodGet }, 400},
		"elsewhere":    {func(r *http.Request) { r.URL.Path = "/" }, 404},
		"from a form":  {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 400},
		"without type": {func(r *http.Request) { r.Header.Del("Content-Type") }, 400},
	} {
		if status, text := send(t, h, deny, c.edit); status != c.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if len(d.asked) > 0 {
		t.Errorf("done for strangers: %v", d.asked)
	}
}

// A command that is sent again is done once, however often and at whatever time.
func TestCommandIsDoneOnce(t *testing.T) {
	d := &desk{}
	h := openc2.New(d, openc2.Tokens{"soar": token})
	const deny = `{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"command_id":"c-1"}`
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, text := send(t, h, deny); status != 200 || !strings.Contains(text, "42") {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	all.Wait()
	if len(d.asked) != 1 {
		t.Errorf("done %d times", len(d.asked))
	}
	if status, text := send(t, h, strings.Replace(deny, ".9", ".8", 1)); status != 400 {
		t.Errorf("another command with the ID: %d %s", status, text)
	}
	for i := range 3000 {
		send(t, h, fmt.Sprintf(`{"action":"query","target":{"features":[]},"command_id":"q-%d"}`, i))
	}
	if send(t, h, deny); len(d.asked) != 2 {
		t.Errorf("remembered without bound: done %d times", len(d.asked))
	}
}

func TestTokens(t *testing.T) {
	got, err := openc2.ParseTokens("tokens", []byte("# who may ask\nsoar "+token+" # the platform\n\nops  x"+token+"\n"))
	if err != nil || len(got) != 2 || got["soar"] != token {
		t.Errorf("%v, %v", got, err)
	}
	for in, want := range map[string]string{
		"soar short\n": "tokens:1: the token of soar", "\nsoar\n": "tokens:2: want", "a " + token + "\na " + token: "tokens:2: a has", "# none\n": "no tokens",
	} {
		if _, err := openc2.ParseTokens("tokens", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// Whatever comes, the answer is one of the language's, and what is not understood is
// not done.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		`{"action":"deny","target":{"ipv4_net":"10.0.0.9"},"args":{"duration":600000,"slpf":{"drop_process":"none"}}}`,
		`{"action":"deny","target":{"ipv6_connection":{"protocol":"tcp","src_addr":"fd00::9","dst_port":22}},"command_id":"x"}`,
		`{"action":"delete","target":{"slpf:rule_number":42}}`, `{"action":"query","target":{"features":["pairs"]}}`, `{"target":{"":null}}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := &desk{}
		status, text := send(t, openc2.New(d, openc2.Tokens{"soar": token}), string(body))
		switch status {
		case 200, 400, 403, 404, 501:
		default:
			t.Fatalf("%d %s", status, text)
		}
		if status != 200 && len(d.asked) > 0 {
			t.Fatalf("%d, but %v", status, d.asked)
		}
	})
}
