package policy

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Invariant is what must be true of the policies whoever changes them; package
// prove tells whether it is. It has one of deny and allow.
type Invariant struct {
	// Name is unique among all files.
	Name string `yaml:"name"`
	// Description is for people: one line.
	Description string `yaml:"description,omitempty"`
	// Deny is true when none of these connections comes about.
	Deny *Connections `yaml:"deny,omitempty"`
	// Allow is true when all of them do.
	Allow *Connections `yaml:"allow,omitempty"`
}

// Connections are those of some with others; what is left out is everything.
type Connections struct {
	// From are those who open them: one of the peers, and none of those that
	// begin with "not".
	From []Term `yaml:"from,omitempty"`
	// To are those to whom they are opened, in the same way.
	To []Term `yaml:"to,omitempty"`
	// Services, one of which has to fit.
	Services []ServiceRef `yaml:"services,omitempty"`
}

// Term is a peer, or everybody else: "corp", "not corp".
type Term struct {
	Not  bool
	Peer Peer
}

// String is the form that stands in a file.
func (t Term) String() string {
	if t.Not {
		return "not " + t.Peer.String()
	}
	return t.Peer.String()
}

// MarshalYAML writes one text.
func (t Term) MarshalYAML() (any, error) { return t.String(), nil }

// UnmarshalStrict reads a peer, or "not" and one word.
func (t *Term) UnmarshalStrict(n strictyaml.Node) error {
	word, not := strings.CutPrefix(n.Value(), "not ")
	if n.Kind() != yaml.ScalarNode || !not {
		return n.Decode(&t.Peer)
	}
	t.Not = true
	p, isAddress, err := parsePrefix(strings.TrimSpace(word))
	switch {
	case err != nil:
		return n.Errorf("%v", err)
	case isAddress:
		t.Peer.Prefix = p
	default:
		t.Peer.Group = strings.TrimSpace(word)
	}
	return nil
}

// mergeInvariants takes over those of a file.
func (r *reader) mergeInvariants(p *part) {
	for i := range p.Invariants {
		r.set.Invariants = append(r.set.Invariants, p.Invariants[i])
		r.invariants = append(r.invariants, place{p.doc, fmt.Sprintf("invariants[%d]", i)})
	}
}

func (r *reader) checkInvariants() {
	names := map[string]int{}
	for i := range r.set.Invariants {
		x := &r.set.Invariants[i]
		at := r.invariants[i]
		want := r.at(at.doc, at.path)
		if first, taken := names[x.Name]; taken {
			want(false, "name", "the name %s is taken in %s", x.Name, r.invariants[first].position())
		} else {
			names[x.Name] = i
		}
		want(policyForm.MatchString(x.Name) && len(x.Name) <= maxName, "name", "%q is not a name of letters, digits and . _ : / -", x.Name)
		want(len(x.Description) <= maxText && printable(x.Description), "description", "is longer than %d bytes, or not text of one line", maxText)
		want((x.Deny == nil) != (x.Allow == nil), "", "needs one of deny and allow")
		if x.Deny != nil {
			r.connections(want.under("deny"), x.Deny)
		}
		if x.Allow != nil {
			r.connections(want.under("allow"), x.Allow)
		}
	}
	if n := len(r.set.Invariants); n > maxPolicies {
		r.at(r.parts[0].doc, "")(false, "invariants", "%d invariants, at most %d are allowed", n, maxPolicies)
	}
}

func (r *reader) connections(want check, c *Connections) {
	for _, side := range []struct {
		path  string
		terms []Term
	}{{"from", c.From}, {"to", c.To}} {
		notEmpty(want, side.path, side.terms)
		for i, t := range side.terms {
			path := fmt.Sprintf("%s[%d]", side.path, i)
			want(!t.Not || !t.Peer.IsAny(), path, "nobody is left")
			r.peer(want, path, t.Peer, []string{Any})
		}
	}
	r.serviceRefs(want, c.Services)
}

// InvariantAt is where an invariant stands; zero if it was not read from a
// file.
func (s *Set) InvariantAt(name string) strictyaml.Position {
	if s.origins == nil {
		return strictyaml.Position{}
	}
	return s.origins.invariants[name].position()
}
