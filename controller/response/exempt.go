package response

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Exemption says who is left alone, from what and when: a licensed scanner, a
// maintenance window.
type Exemption struct {
	// Hosts that are left alone; none is everybody.
	Hosts []netip.Prefix `json:"hosts,omitempty"`
	// Kinds of findings; none is all.
	Kinds []detector.Kind `json:"kinds,omitempty"`
	// Services narrow it to findings about one of them; none is all, and those
	// about many ports.
	Services []Service `json:"services,omitempty"`
	// From and Until bound it in time; zero does not.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Days and the minutes of the day, Begin to End in Zone, narrow it to a
	// window that recurs; an End before Begin is on the next day.
	Days       []time.Weekday `json:"days,omitempty"`
	Begin, End int            `json:",omitzero"`
	Zone       *time.Location `json:"-"`
	Why        string         `json:"why,omitempty"`
	Who        string         `json:"who,omitempty"`
}

// Service is a port of a transport protocol, as in "tcp/22"; the zero value is none.
type Service struct {
	Proto uint8
	Port  uint16
}

// MarshalText writes "tcp/22"; nothing for none.
func (s Service) MarshalText() ([]byte, error) {
	if s == (Service{}) {
		return nil, nil
	}
	return fmt.Appendf(nil, "%s/%d", flow.ProtoName(s.Proto), s.Port), nil
}

// UnmarshalText reads "tcp/22", "udp/53" or "sctp/5000".
func (s *Service) UnmarshalText(text []byte) error {
	name, number, _ := strings.Cut(string(text), "/")
	proto := map[string]uint8{"tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "sctp": flow.ProtoSCTP}[name]
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || proto == 0 || port == 0 {
		return fmt.Errorf("service %q is not tcp/PORT, udp/PORT or sctp/PORT", text)
	}
	*s = Service{proto, uint16(port)}
	return nil
}

// String says what it is for.
func (x Exemption) String() string {
	var b strings.Builder
	b.WriteString("exempt")
	if x.Why != "" {
		b.WriteString(": " + x.Why)
	}
	if x.Who != "" {
		b.WriteString(", says " + x.Who)
	}
	if !x.Until.IsZero() {
		b.WriteString(", until " + x.Until.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// covers reports whether a decision is about somebody who is to be left alone.
func (x *Exemption) covers(d *Decision, now time.Time) bool {
	if len(x.Kinds) > 0 && !slices.Contains(x.Kinds, d.Kind) {
		return false
	}
	if len(x.Services) > 0 && !slices.Contains(x.Services, d.Attacked) {
		return false
	}
	if _, in := covering(x.Hosts, d.Target.Host); len(x.Hosts) > 0 && !in {
		return false
	}
	return x.holds(now)
}

const minutesOfDay = 24 * 60

// holds reports whether the exemption is in force.
func (x *Exemption) holds(now time.Time) bool {
	if !x.From.IsZero() && now.Before(x.From) || !x.Until.IsZero() && !now.Before(x.Until) {
		return false
	}
	if x.Begin == x.End && len(x.Days) == 0 {
		return true
	}
	if x.Zone != nil {
		now = now.In(x.Zone)
	}
	day, minute := now.Weekday(), now.Hour()*60+now.Minute()
	length := (x.End - x.Begin + minutesOfDay) % minutesOfDay
	if length == 0 {
		length = minutesOfDay
	}
	since := minute - x.Begin
	if since < 0 { // of a window that began yesterday
		since += minutesOfDay
		day = (day + 6) % 7
	}
	return since < length && (len(x.Days) == 0 || slices.Contains(x.Days, day))
}

// exemptKey is where operators' exemptions are kept, beside the decisions.
const exemptKey = "exempt"

// maxExempt bounds what operators may exempt.
const maxExempt = 256

// Exempt leaves a host alone for a time, and lets go what holds it for a reason
// that is exempt now.
func (m *Manager) Exempt(ctx context.Context, x Exemption) error {
	return m.do(ctx, func(ctx context.Context, answer func()) error {
		now := time.Now()
		list := slices.DeleteFunc(m.exemptions(), func(y Exemption) bool { return !y.Until.After(now) })
		if !x.Until.After(now) || len(x.Hosts) == 0 {
			return fmt.Errorf("exempt: needs a host and a time in the future: %w", ErrState)
		}
		if len(list) >= maxExempt {
			return fmt.Errorf("exempt: there are %d exemptions already: %w", len(list), ErrState)
		}
		if err := m.keepExempt(ctx, append(list, x)); err != nil {
			return err
		}
		m.log.WithFields(logrus.Fields{"hosts": x.Hosts, "kinds": x.Kinds, "until": x.Until, "who": x.Who}).Warn("exempt")
		left := 1
		one := func() {
			if left--; left == 0 {
				answer()
			}
		}
		for id := range m.lives {
			if d := m.all[id]; d.Finding != "" && x.covers(d, now) {
				left++
				m.overrule(d, x.Who)
				m.finish(ctx, d, StateReleased, x.String(), one)
			}
		}
		one()
		return errLater
	})
}

// Unexempt ends all exemptions that operators gave a host. It returns an error
// that wraps ErrNotFound where there is none.
func (m *Manager) Unexempt(ctx context.Context, host netip.Addr, who string) error {
	return m.do(ctx, func(ctx context.Context, _ func()) error {
		list := m.exemptions()
		left := slices.DeleteFunc(slices.Clone(list), func(x Exemption) bool {
			return slices.Contains(x.Hosts, netip.PrefixFrom(host, host.BitLen()))
		})
		if len(left) == len(list) {
			return fmt.Errorf("exempt %s: %w", host, ErrNotFound)
		}
		m.log.WithFields(logrus.Fields{"host": host, "who": who}).Warn("no longer exempt")
		return m.keepExempt(ctx, left)
	})
}

// Exemptions lists what is exempt by configuration and by operators, the latter
// as long as they hold.
func (m *Manager) Exemptions() []Exemption {
	now := time.Now()
	return slices.DeleteFunc(append(slices.Clone(m.cfg.Exempt), m.exemptions()...), func(x Exemption) bool {
		return !x.Until.IsZero() && !x.Until.After(now)
	})
}

func (m *Manager) exemptions() []Exemption {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.exempt)
}

// keepExempt writes operators' exemptions down, and then holds to them.
func (m *Manager) keepExempt(ctx context.Context, list []Exemption) error {
	raw, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := m.store.Put(ctx, exemptKey, raw); err != nil {
		return fmt.Errorf("exemptions would not survive a restart: %w", err)
	}
	m.mu.Lock()
	m.exempt = list
	m.mu.Unlock()
	return nil
}
