// Package openc2 lets other machines ask for containment: a consumer of OpenC2
// (Language Specification 1.0) for the profile of stateless packet filtering (SLPF
// 1.0, both OASIS 2019), over HTTPS as its transfer specification has it.
//
//	deny   ipv4_net, ipv6_net                quarantine of one host
//	deny   ipv4_connection, ipv6_connection  the host src_addr is kept from a peer or a service
//	allow  ipv4_net, ipv6_net                the host is let go, and exempt for a time
//	delete slpf:rule_number                  what an earlier deny did is taken back
//	query  features                          what is understood
//
// Whoever asks is held by the same guards as everybody else; what they refuse is
// answered with 403 and their reason. Everything ends: a deny without a duration
// after an hour, an allow as well. What is not supported is answered with 501, never
// done by halves.
package openc2

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// Controller does what is asked for.
type Controller interface {
	Contain(ctx context.Context, o response.Order) (id string, err error)
	Release(ctx context.Context, id, who, why string) error
	Exempt(ctx context.Context, x response.Exemption) error
}

const (
	// Path is where commands are taken (transfer specification, section 3.2).
	Path = "/.well-known/openc2"
	// maxBody bounds a command, in bytes.
	maxBody = 64 << 10
	// standing is how long a command holds that does not say.
	standing = time.Hour
	// remembered is how many answers are kept, so that a command that is sent
	// twice is done once.
	remembered = 1024

	commandType  = "application/openc2-cmd+json"
	responseType = "application/openc2-rsp+json;version=1.0"
)

// Tokens are bearer tokens (RFC 6750) by the name of who holds one.
type Tokens map[string]string

// ParseTokens reads lines of a name and a token, with comments behind #. Errors name
// file and line.
func ParseTokens(file string, raw []byte) (Tokens, error) {
	tokens, n := Tokens{}, 0
	for line := range strings.Lines(string(raw)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
			continue
		case len(fields) != 2:
			return nil, fmt.Errorf("%s:%d: want a name and a token", file, n)
		case len(fields[1]) < 20:
			return nil, fmt.Errorf("%s:%d: the token of %s has less than 20 characters", file, n, fields[0])
		case tokens[fields[0]] != "":
			return nil, fmt.Errorf("%s:%d: %s has a token already", file, n, fields[0])
		}
		tokens[fields[0]] = fields[1]
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s: no tokens: nobody could be let in", file)
	}
	return tokens, nil
}

// holder names who sent a request, "" for nobody who is known. It takes as long for
// every token.
func (t Tokens) holder(r *http.Request) string {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum, who := sha256.Sum256([]byte(given)), ""
	for name, token := range t {
		want := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 && ok {
			who = name
		}
	}
	return who
}

// answer is an OpenC2 response (Language Specification, section 3.3.2).
type answer struct {
	Status  int            `json:"status"`
	Text    string         `json:"status_text,omitempty"`
	Results map[string]any `json:"results,omitempty"`
}

// Consumer answers commands. It is an http.Handler.
type Consumer struct {
	ctl    Controller
	tokens Tokens

	mu   sync.Mutex
	done map[string]*deed // by who asked and command_id
	past []string         // keys of done, oldest first
}

// deed is a command that was seen before.
type deed struct {
	once   sync.Once
	body   [sha256.Size]byte
	answer answer
}

// New returns a consumer that lets holders of tokens ask.
func New(ctl Controller, tokens Tokens) *Consumer {
	return &Consumer{ctl: ctl, tokens: tokens, done: map[string]*deed{}}
}

// ServeHTTP implements http.Handler.
func (c *Consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := c.serve(w, r)
	w.Header().Set("Content-Type", responseType)
	if id := r.Header.Get("X-Request-ID"); id != "" && len(id) <= 128 {
		w.Header().Set("X-Request-ID", id)
	}
	w.WriteHeader(a.Status)
	_ = json.NewEncoder(w).Encode(a) // a client that went away is no fault of ours
}

func (c *Consumer) serve(w http.ResponseWriter, r *http.Request) answer {
	who := c.tokens.holder(r)
	if who == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="openc2"`)
		return answer{Status: http.StatusUnauthorized, Text: "a token is needed"}
	}
	if r.URL.Path != Path {
		return answer{Status: http.StatusNotFound, Text: "commands go to " + Path}
	}
	if r.Method != http.MethodPost {
		return answer{Status: http.StatusBadRequest, Text: "commands are posted"}
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != commandType {
		return answer{Status: http.StatusBadRequest, Text: "the content type of a command is " + commandType}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return answer{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return c.once(r.Context(), raw, "openc2 "+who)
}

// once does a command, or repeats the answer to one that was done before.
func (c *Consumer) once(ctx context.Context, raw []byte, who string) answer {
	cmd, target, err := parse(raw)
	if err != nil {
		return refusal(err)
	}
	if cmd.ID == "" {
		return c.do(ctx, &cmd, target, who)
	}
	d, fresh := c.remember(who+" "+cmd.ID, sha256.Sum256(raw))
	if !fresh && d.body != sha256.Sum256(raw) {
		return answer{Status: http.StatusBadRequest, Text: "another command had this command_id"}
	}
	d.once.Do(func() { d.answer = c.do(context.WithoutCancel(ctx), &cmd, target, who) })
	return d.answer
}

func (c *Consumer) remember(key string, body [sha256.Size]byte) (d *deed, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.done[key]; d != nil {
		return d, false
	}
	if len(c.past) >= remembered {
		delete(c.done, c.past[0])
		c.past = slices.Delete(c.past, 0, 1)
	}
	d = &deed{body: body}
	c.done[key] = d
	c.past = append(c.past, key)
	return d, true
}

func refusal(err error) answer {
	var f *fault
	switch {
	case errors.As(err, &f):
		return answer{Status: f.status, Text: f.text}
	case errors.Is(err, response.ErrNotFound):
		return answer{Status: http.StatusNotFound, Text: err.Error()}
	case errors.Is(err, response.ErrState):
		return answer{Status: http.StatusForbidden, Text: err.Error()}
	}
	return answer{Status: http.StatusInternalServerError, Text: err.Error()}
}

// do does a command.
func (c *Consumer) do(ctx context.Context, cmd *command, target, who string) answer {
	var results map[string]any
	var err error
	switch raw := cmd.Target[target]; {
	case cmd.Action == "deny":
		results, err = c.deny(ctx, cmd, target, who)
	case cmd.Action == "allow":
		err = c.allow(ctx, cmd, target, who)
	case cmd.Action == "delete" && target == "slpf:rule_number":
		err = c.remove(ctx, raw, who)
	case cmd.Action == "query" && target == "features":
		results, err = features(raw)
	default:
		err = unsupported("%s of %s", cmd.Action, target)
	}
	if err != nil {
		return refusal(err)
	}
	if cmd.Args.Response == "none" {
		results = nil
	}
	return answer{Status: http.StatusOK, Results: results}
}

func (c *Consumer) deny(ctx context.Context, cmd *command, target, who string) (map[string]any, error) {
	o, err := order(target, cmd.Target[target])
	if err != nil {
		return nil, err
	}
	if o.For, err = cmd.Args.span(time.Now(), standing); err != nil {
		return nil, err
	}
	o.Who = who
	id, err := c.ctl.Contain(ctx, o)
	if err != nil {
		return nil, err
	}
	n, err := ruleNumber(id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"slpf": map[string]any{"rule_number": n}}, nil
}

func (c *Consumer) allow(ctx context.Context, cmd *command, target, who string) error {
	o, err := order(target, cmd.Target[target])
	if err != nil {
		return err
	}
	if o.Peer.IsValid() || o.Proto != 0 {
		return unsupported("allow of a connection: a host is let go as a whole")
	}
	span, err := cmd.Args.span(time.Now(), standing)
	if err != nil {
		return err
	}
	return c.ctl.Exempt(ctx, response.Exemption{Hosts: []netip.Prefix{netip.PrefixFrom(o.Host, o.Host.BitLen())}, Until: time.Now().Add(span),
		Why: "allowed", Who: who})
}

func (c *Consumer) remove(ctx context.Context, raw json.RawMessage, who string) error {
	var n int64
	if err := strict(raw, &n); err != nil {
		return err
	}
	return c.ctl.Release(ctx, decisionID(n), who, "delete of its rule number")
}

// ruleNumber is the number of a decision: what stands in its ID, in hexadecimal, as
// a number, so that there is no table of them to lose.
func ruleNumber(id string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "d-"), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("number of decision %s: %w", id, err)
	}
	return n, nil
}

func decisionID(n int64) string { return fmt.Sprintf("d-%012x", n) }

// features answers a query (Language Specification, section 3.4.1.5).
func features(raw json.RawMessage) (map[string]any, error) {
	var asked []string
	if err := strict(raw, &asked); err != nil {
		return nil, err
	}
	know := map[string]any{
		"versions": []string{"1.0"},
		"profiles": []string{"slpf"},
		"pairs": map[string]any{
			"deny":   []string{"ipv4_net", "ipv6_net", "ipv4_connection", "ipv6_connection"},
			"allow":  []string{"ipv4_net", "ipv6_net"},
			"delete": []string{"slpf:rule_number"},
			"query":  []string{"features"},
		},
	}
	results := map[string]any{}
	for _, name := range asked {
		if name == "rate_limit" {
			continue // there is none
		}
		value, ok := know[name]
		if !ok {
			return nil, unsupported("feature %q", name)
		}
		results[name] = value
	}
	return results, nil
}
