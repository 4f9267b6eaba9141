package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// timeline prints what happens, and remembers what the verdict needs. Its
// methods are safe for concurrent use.
type timeline struct {
	color bool
	begin time.Time

	mu  sync.Mutex
	out io.Writer
	// acts are the attacks so far; the last is under way. Events wait in held
	// until the time of its first packet is known, because they are shown
	// relative to it.
	acts []*act
	held []measure.Event
	live chan measure.Event
	// open are decisions that were applied and not yet released.
	open    map[string]bool
	changed chan struct{} // closed and replaced when open changes
}

func newTimeline(out io.Writer, color bool) *timeline {
	return &timeline{color: color, begin: time.Now(), out: out, open: map[string]bool{}, changed: make(chan struct{})}
}

// say prints a line that is about no packet.
func (t *timeline) say(what, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(time.Now(), "", what, fmt.Sprintf(format, args...))
}

// print prints one line: seconds since the beginning, milliseconds since the
// first attack packet, what, and the rest.
func (t *timeline) print(at time.Time, since, what, text string) {
	const width = 12
	label := fmt.Sprintf("%-*s", width, what)
	if t.color {
		label = "\x1b[" + colorOf(what) + "m" + label + "\x1b[0m"
	}
	fmt.Fprintf(t.out, "%7.3f s %11s  %s  %s\n", at.Sub(t.begin).Seconds(), since, label, text)
}

// colorOf is the terminal's code for a kind of line.
func colorOf(what string) string {
	switch what {
	case "attack", "first packet", "FAILED", "NOT contained":
		return "31" // red
	case "detected":
		return "33" // yellow
	case "contained", "verified", "released", "last packet", "in the limit", "OK":
		return "32" // green
	}
	return "2" // faint
}

// act begins an attack, and returns the controller's events from now on.
func (t *timeline) act(a *act) <-chan measure.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acts = append(t.acts, a)
	t.live = make(chan measure.Event, 4096)
	return t.live
}

// first tells when the current attack's first packet left.
func (t *timeline) first(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.acts[len(t.acts)-1]
	if !a.first.IsZero() {
		return
	}
	a.first = at
	t.print(at, "+0.0 ms", "first packet", "leaves "+a.roles.Attacker)
	for _, e := range t.held {
		t.show(e)
	}
	t.held = nil
}

// pump takes the controller's events in until they end.
func (t *timeline) pump(events <-chan measure.Event) {
	for e := range events {
		t.take(e)
	}
}

func (t *timeline) take(e measure.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.live <- e: // nil before the first attack
	default: // full only when nobody measures any more
	}
	if e.Type == measure.Decision {
		t.note(e)
	}
	if n := len(t.acts); n > 0 && t.acts[n-1].first.IsZero() {
		t.held = append(t.held, e)
		return
	}
	t.show(e)
}

// note keeps account of what is still contained, and of the proof.
func (t *timeline) note(e measure.Event) {
	switch e.State {
	case measure.StateApplied:
		t.open[e.ID] = true
	case measure.StateReleased, "expired", "rolled-back":
		delete(t.open, e.ID)
	default:
		return
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// show prints an event that people want to see.
func (t *timeline) show(e measure.Event) {
	a := t.actOf(e)
	what, text := "", ""
	switch {
	case e.Type == measure.Finding && e.State == measure.StateFiring:
		what, text = "detected", fmt.Sprintf("%s by %s (%s)", e.Kind, who(e), e.ID)
	case e.Type == measure.Decision && e.State == measure.StateApplied:
		what, text = "contained", fmt.Sprintf("%s of %s (%s)", e.Action, who(e), e.ID)
		if a != nil {
			a.contained = true
		}
		if e.Limit > 0 {
			text += fmt.Sprintf(", limit %.0f packets/s", e.Limit)
		}
	case e.Type == measure.Decision && e.State == measure.StateVerified:
		what, text = "verified", fmt.Sprintf("the attack is dropped and the innocent pass (%s)", e.ID)
		if a != nil && a.verified == 0 {
			a.verified = e.Time.Sub(a.first)
		}
	case e.Type == measure.Decision && (e.State == measure.StateReleased || e.State == "expired"):
		what, text = "released", fmt.Sprintf("%s (%s)", who(e), e.ID)
	default:
		return
	}
	since := ""
	if a != nil {
		since = fmt.Sprintf("%+.1f ms", float64(e.Time.Sub(a.first))/1e6)
	}
	t.print(e.Time, since, what, text)
}

// actOf finds the attack that an event is about: the latest of its attacker.
func (t *timeline) actOf(e measure.Event) *act {
	for _, a := range slices.Backward(t.acts) {
		// A finding about forged sources names no host; its kind does.
		forged := e.Type == measure.Finding && e.Host == "" && e.Kind == a.attack.Finding
		if forged || measure.About(e, a.roles) {
			return a
		}
	}
	return nil
}

// proof is how long after the first packet containment was verified; 0 when
// it was not.
func (t *timeline) proof(a *act) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.verified
}

// who names what an event is about.
func who(e measure.Event) string {
	for _, name := range []string{e.Host, e.Port, e.Target} {
		if name != "" {
			return name
		}
	}
	return "forged sources"
}

// wasContained reports whether the controller acted against an attack.
func (t *timeline) wasContained(a *act) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.contained
}

// report prints what the captures say of an attack.
func (t *timeline) report(a *act) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := a.outcome
	end := o.First.Add(o.TTC.D)
	since := fmt.Sprintf("+%.1f ms", float64(o.TTC.D)/1e6)
	count := fmt.Sprintf("%d of %d delivered, by packet capture", o.Delivered, o.Sent)
	switch {
	case o.TTC.OK && o.Limit > 0:
		t.print(end, since, "in the limit", fmt.Sprintf("what arrives at %s, from here on: %s", a.roles.Victim, count))
	case o.TTC.OK:
		t.print(end, since, "last packet", fmt.Sprintf("arrives at %s: %s", a.roles.Victim, count))
	default:
		t.print(time.Now(), "", "NOT contained", fmt.Sprintf("%d of %d delivered", o.Delivered, o.Sent))
	}
	t.print(time.Now(), "", "benign", fmt.Sprintf("%d of %d probes and %d of %d requests lost",
		a.benign.ProbesLost, a.benign.ProbesSent, a.benign.RequestsFailed, a.benign.RequestsSent))
}

// untilReleased waits until nothing is contained any more.
func (t *timeline) untilReleased(ctx context.Context) error {
	for {
		t.mu.Lock()
		open, changed := len(t.open), t.changed
		t.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for release: %w", ctx.Err())
		case <-changed:
		}
	}
}

// table prints the figures.
func (t *timeline) table(acts []*act) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.out)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join([]string{"attack", "detected ms", "contained ms", "verified ms", "delivered", "sent", "benign lost", "released"}, "\t"))
	for _, a := range acts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d of %d\t%v\n", a.attack.Name,
			ms(a.outcome.Named), ms(a.outcome.TTC), ms(measure.Span{D: a.verified, OK: a.verified != 0}),
			a.outcome.Delivered, a.outcome.Sent, a.benign.Packets(), a.benign.ProbesSent+a.benign.RequestsSent, a.released)
	}
	_ = w.Flush() // to a terminal; there is nowhere to complain to
	fmt.Fprintln(t.out)
}

func ms(s measure.Span) string {
	if !s.OK {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(s.D)/1e6)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
