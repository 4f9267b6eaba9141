package staged

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText writes the report for people.
func (r *Report) WriteText(out io.Writer) error {
	p := &printer{out: out}
	c := &r.Coverage
	if c.Records == 0 {
		p.line("No records: nothing can be said of the policies.")
		return p.err
	}
	rate := "every packet"
	if c.RateTo > 1 {
		rate = fmt.Sprintf("one packet in %.0f", c.RateFrom)
		if c.RateFrom != c.RateTo {
			rate += fmt.Sprintf(" to %.0f", c.RateTo)
		}
	}
	p.line("%d records, %s to %s (%s), %s; the opener is known in %.0f %%",
		c.Records, c.From.Format(time.RFC3339), c.To.Format(time.RFC3339), c.To.Sub(c.From).Round(time.Second), rate, 100*c.OpenerKnown)
	if lost := c.Forgotten + c.Uncounted + c.Unjudged; lost > 0 {
		p.line("No room: %d connections and %d denials are not told one by one, %d records are not judged", c.Forgotten, c.Uncounted, c.Unjudged)
	}
	if c.TapTo > 1 {
		p.line("Attempts of attacks were sampled, as few as one in %.3g: their connections are those that were seen, their conversations are estimated", c.TapTo)
	}
	if c.Fault != "" {
		p.line("Fault: %s", c.Fault)
	}
	p.line("")
	p.totals(r)
	p.rules(r)
	p.never(r)
	return p.err
}

type printer struct {
	out io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// table writes rows of cells that stand below each other.
func (p *printer) table(rows [][]string) {
	if p.err != nil {
		return
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		if _, p.err = fmt.Fprintln(w, strings.Join(row, "\t")); p.err != nil {
			return
		}
	}
	p.err = w.Flush()
}

func (t *Totals) cells() []string {
	return []string{fmt.Sprint(t.Openers), fmt.Sprint(t.Connections), fmt.Sprint(t.Answered), fmt.Sprint(t.Scans),
		fmt.Sprintf("%.0f", t.Conversations), fmt.Sprintf("%.0f", t.Packets), size(t.Bytes)}
}

// size writes a number of bytes with three figures.
func size(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for n >= 1000 && i < len(units)-1 {
		n, i = n/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.3g %s", n, units[i])
}

func (p *printer) totals(r *Report) {
	rows := [][]string{{"", "HOSTS", "CONNECTIONS", "ANSWERED", "SCANS", "CONVERSATIONS", "PACKETS", "BYTES"}}
	for _, t := range []struct {
		name string
		of   *Totals
	}{{"denied by what is enforced", &r.Denied}, {"would be denied by what is staged", &r.WouldDeny}, {"would be allowed by what is staged", &r.WouldAllow}} {
		rows = append(rows, append([]string{t.name}, t.of.cells()...))
	}
	u := &r.Undecided
	rows = append(rows, []string{"no rule decides", "-", fmt.Sprint(u.Connections), "-", "-", fmt.Sprintf("%.0f", u.Conversations), fmt.Sprintf("%.0f", u.Packets), size(u.Bytes)})
	p.table(rows)
	if len(r.Affected) > 0 {
		const most = 20
		list := r.Affected[:min(len(r.Affected), most)]
		more := ""
		if n := len(r.Affected) - len(list); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		p.line("Would lose what somebody serves: %s%s", strings.Join(list, ", "), more)
	}
	p.line("")
}

// rules writes those that deny, or would deny or allow.
func (p *printer) rules(r *Report) {
	for i := range r.Rules {
		x := &r.Rules[i]
		if len(x.Exchanges) == 0 {
			continue
		}
		p.line("%s/%s/%s: %s, %s%s", x.Policy, x.Direction, x.Rule, x.Action, x.Mode, after(" at ", x.At))
		for _, t := range []struct {
			name string
			of   *Totals
		}{{Denied, &x.Denied}, {WouldDeny, &x.WouldDeny}, {WouldAllow, &x.WouldAllow}} {
			if t.of.Connections > 0 {
				p.line("  %s: %d connections of %d hosts, %d answered, %d of scans; %.0f conversations, %s", t.name, t.of.Connections, t.of.Openers, t.of.Answered, t.of.Scans, t.of.Conversations, size(t.of.Bytes))
			}
		}
		rows := [][]string{{"  EFFECT", "FROM", "TO", "SERVICE", "ANSWERED", "CONVERSATIONS", "BYTES", "FIRST", "LAST"}}
		for _, e := range x.Exchanges {
			rows = append(rows, []string{"  " + e.Effect, host(e.Opener.String(), e.OpenerName), host(e.Responder.String(), e.ResponderName), e.Service,
				answered(&e), fmt.Sprintf("%.0f", e.Conversations), size(e.Bytes), e.First.Format(time.DateTime), e.Last.Format(time.DateTime)})
		}
		p.table(rows)
		p.line("")
	}
}

func answered(e *Exchange) string {
	word := "no"
	if e.Answered {
		word = "yes"
	}
	if e.Scan {
		word += ", a scan"
	}
	if e.OpenerKnown == "guessed" {
		word += ", opener guessed"
	}
	return word
}

func host(addr, name string) string {
	if name == "" {
		return addr
	}
	return name + " (" + addr + ")"
}

func after(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}

// never lists the rules that decided nothing.
func (p *printer) never(r *Report) {
	var idle []string
	for i := range r.Rules {
		if x := &r.Rules[i]; !x.Hit {
			idle = append(idle, fmt.Sprintf("%s/%s/%s%s", x.Policy, x.Direction, x.Rule, after(" at ", x.At)))
		}
	}
	if len(idle) > 0 {
		p.line("Never hit:")
		for _, name := range idle {
			p.line("  %s", name)
		}
	}
}
