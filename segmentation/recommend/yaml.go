package recommend

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// YAML writes the policy as a file, with the evidence of each rule above it.
func (r *Recommendation) YAML() ([]byte, error) {
	var doc yaml.Node
	if err := doc.Encode(r.File); err != nil {
		return nil, fmt.Errorf("write recommended policy: %w", err)
	}
	for i := 0; i+1 < len(doc.Content); i += 2 {
		key, value := doc.Content[i], doc.Content[i+1]
		switch key.Value {
		case "apiVersion":
			key.HeadComment = r.head()
		case "groups":
			for j := 0; j+1 < len(value.Content); j += 2 {
				value.Content[j].HeadComment = r.about(value.Content[j].Value)
				oneLine(value.Content[j+1])
			}
		case "services":
			for j := 1; j < len(value.Content); j += 2 {
				oneLine(value.Content[j])
			}
		case "policies":
			for j, p := range value.Content {
				r.comment(p, &r.File.Policies[j])
			}
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write recommended policy: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write recommended policy: %w", err)
	}
	return out.Bytes(), nil
}

// oneLine lets a node stand on one line, with all that is in it.
func oneLine(n *yaml.Node) {
	n.Style |= yaml.FlowStyle
	for _, c := range n.Content {
		oneLine(c)
	}
}

// head says what the policy was learned from.
func (r *Recommendation) head() string {
	s := &r.Stats
	var out []string
	line := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	line("Learned from what was seen, for you to review: nothing of it is enforced while it is staged.")
	if s.Records > 0 {
		from, to := time.Unix(0, s.First).UTC(), time.Unix(0, s.Last).UTC()
		line("Seen: %d records, %s to %s (%s), %s; who opened is known of %.0f %% of them.", s.Records, from.Format(time.RFC3339), to.Format(time.RFC3339),
			to.Sub(from).Round(time.Second), sampling(s.RateTo), 100*s.Known())
		if s.Forgotten > 0 {
			line("%d connections that nobody had answered found no room.", s.Forgotten)
		}
	}
	line("Whatever happens less often than that is not in it: run it staged for long enough.")
	for _, l := range r.LeftOut {
		line("Left out: %d connections, %s, such as %s.", l.Connections, l.Why, strings.Join(l.Examples, ", "))
	}
	return strings.Join(out, "\n")
}

func sampling(rate float64) string {
	if rate <= 1 {
		return "every packet"
	}
	return fmt.Sprintf("as few as one packet in %.0f", rate)
}

// about says who is in a group.
func (r *Recommendation) about(name string) string {
	g, ok := r.names[name]
	switch {
	case !ok:
		return ""
	case name == outsideName:
		return "Everybody else."
	case g.Quiet:
		return count(len(g.Members), "host", "hosts") + " of whose connections nothing was learned: " + list(g.Members)
	}
	text := count(len(g.Members), "host", "hosts") + ": " + list(g.Members)
	if g.Part {
		text += "; they are in another group as well"
	}
	if g.ByLabels {
		text += "; and who else has these labels"
	}
	return text
}

// list writes the first names of many.
func list(names []string) string {
	const most = 12
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// comment writes the evidence above the rules of a policy.
func (r *Recommendation) comment(n *yaml.Node, p *policy.Policy) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		d := slices.Index([]string{"", "ingress", "egress"}, key)
		if key == "appliesTo" {
			oneLine(value)
		}
		if d < 1 {
			continue
		}
		for j, rule := range value.Content {
			oneLine(rule)
			id := policy.RuleID{Policy: p.Name, Direction: policy.Direction(d), Rule: p.Rules(policy.Direction(d))[j].Name}
			if e, ok := r.Evidence[id]; ok {
				rule.HeadComment = e.String()
			}
		}
	}
}

// String is the comment of a rule.
func (e Evidence) String() string {
	side := func(n, of int) string {
		if of == 0 {
			return "outside"
		}
		return fmt.Sprintf("%d of %s", n, count(of, "host", "hosts"))
	}
	to := side(e.Responders, e.RespondersOf)
	if e.Announced {
		to = "all who listen"
	}
	return fmt.Sprintf("%s to %s: %.0f conversations, %s with some on %s; confidence %.2f", side(e.Openers, e.OpenersOf), to,
		e.Conversations, count(int(e.Minutes), "minute", "minutes"), count(int(e.Days), "day", "days"), e.Confidence)
}
