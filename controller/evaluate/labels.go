package evaluate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// maxLabels and maxLabelBytes bound a labels file.
	maxLabels     = 1 << 20
	maxLabelBytes = 64 << 20
)

// HostLabel says what a host was, for recordings whose flows have no labels.
type HostLabel struct {
	// Set limits the label to the set of that name, or to those in the
	// directory of that name; empty is every set.
	Set string
	// Hosts are the hosts it speaks of: a prefix or, where that is not
	// valid, the station MAC; everybody where that is zero, too.
	Hosts netip.Prefix
	MAC   flow.MAC
	// From and To bound the time it speaks of, in Unix nanoseconds; 0 is no
	// bound.
	From, To int64
	// Kind names the attack: a kind of finding, or free text.
	Kind      string
	Malicious bool
}

// Covers reports whether the label speaks of a host at a time.
func (l *HostLabel) Covers(h Host, t int64) bool {
	if t < l.From && l.From != 0 || t > l.To && l.To != 0 {
		return false
	}
	switch {
	case l.Hosts.IsValid():
		return h.Addr.IsValid() && l.Hosts.Contains(h.Addr)
	case l.MAC != flow.MAC{}:
		return h.MAC == l.MAC
	}
	return true
}

// of reports whether the label speaks of a set.
func (l *HostLabel) of(set string) bool {
	return l.Set == "" || l.Set == set || l.Set == path.Base(set) || strings.HasPrefix(set, l.Set+"/")
}

// LoadLabels is ReadLabels for a file.
func LoadLabels(name string) ([]HostLabel, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read host labels: %w", err)
	}
	defer f.Close()
	labels, err := ReadLabels(f)
	if err != nil {
		return nil, fmt.Errorf("read host labels: %s: %w", name, err)
	}
	return labels, nil
}

// ReadLabels reads a CSV with a header of these columns, in any order:
//
//	set        optional: the set's name, or the directory it is in; empty is all
//	host       an address, a prefix, an Ethernet address, or * for everybody
//	from, to   optional: RFC 3339 or Unix seconds; empty is no bound
//	kind       optional: a kind of finding, or what people call the attack
//	malicious  true or false
//
// Lines that begin with # are comments. The first line that speaks of a host at
// a time decides, before any label of a flow. Errors name the line.
func ReadLabels(r io.Reader) ([]HostLabel, error) {
	in := csv.NewReader(io.LimitReader(r, maxLabelBytes))
	in.Comment, in.TrimLeadingSpace, in.ReuseRecord = '#', true, true
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	columns := map[string]int{}
	for i, name := range header {
		columns[strings.ToLower(strings.TrimSpace(name))] = i
	}
	for _, need := range []string{"host", "malicious"} {
		if _, ok := columns[need]; !ok {
			return nil, fmt.Errorf("no column %q", need)
		}
	}
	var out []HostLabel
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		if len(out) == maxLabels {
			return nil, fmt.Errorf("line %d: more than %d labels", line, maxLabels)
		}
		l, err := parseLabel(func(name string) string {
			if i, ok := columns[name]; ok {
				return strings.TrimSpace(row[i])
			}
			return ""
		})
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		out = append(out, l)
	}
}

func parseLabel(field func(string) string) (l HostLabel, err error) {
	// The reader uses the memory of a row again.
	l.Set, l.Kind = strings.Clone(field("set")), strings.Clone(field("kind"))
	if err := l.parseHost(field("host")); err != nil {
		return l, err
	}
	if l.From, err = parseMoment("from", field("from")); err != nil {
		return l, err
	}
	if l.To, err = parseMoment("to", field("to")); err != nil {
		return l, err
	}
	if l.Malicious, err = strconv.ParseBool(field("malicious")); err != nil {
		return l, fmt.Errorf("malicious: %q is not true or false", field("malicious"))
	}
	return l, nil
}

func (l *HostLabel) parseHost(s string) error {
	if s == "*" {
		return nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		l.Hosts = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		l.Hosts = p.Masked()
		return nil
	}
	if err := l.MAC.UnmarshalText([]byte(s)); err != nil || l.MAC.IsZero() {
		return fmt.Errorf("host: %q is no address, prefix, Ethernet address or *", s)
	}
	return nil
}

// parseMoment reads RFC 3339 or Unix seconds, as Unix nanoseconds.
func parseMoment(name, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if x, err := strconv.ParseFloat(s, 64); err == nil && x >= 0 && x < 1<<33 {
		whole := int64(x)
		return whole*1e9 + int64((x-float64(whole))*1e9), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Year() > 2200 {
		return 0, fmt.Errorf("%s: %q is neither RFC 3339 nor Unix seconds", name, s)
	}
	return t.UnixNano(), nil
}
