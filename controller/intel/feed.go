// Package intel reads threat feeds: lists of addresses in files that others
// keep up to date, as plain text or as bundles of STIX 2.1.
package intel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
)

const (
	// maxFile bounds one file of a feed, in bytes.
	maxFile = 64 << 20
	// maxEntries bounds a feed.
	maxEntries = 1_000_000
)

// Feed is what a feed says at a time.
type Feed struct {
	// Prefixes are sorted, each there once.
	Prefixes []netip.Prefix
	// Until is when the same files say something else, because an indicator
	// becomes valid or ends; zero if they never do.
	Until time.Time
}

// add takes what a file says besides.
func (f *Feed) add(other Feed) {
	f.Prefixes = append(f.Prefixes, other.Prefixes...)
	f.change(other.Until)
}

// change notes when something changes.
func (f *Feed) change(at time.Time) {
	if !at.IsZero() && (f.Until.IsZero() || at.Before(f.Until)) {
		f.Until = at
	}
}

// Read reads the files that match a pattern, all of them one feed. In a text
// there is an address or a CIDR a line, and "#" begins a comment. A bundle
// counts with the indicators that are valid at a time, not revoked, and match
// addresses alone. A pattern may match nothing; a file that is named must be
// there. Errors say file and line, or the indicator.
func Read(pattern string, now time.Time) (Feed, error) {
	var out Feed
	names, err := files.Glob(pattern)
	if err != nil {
		return out, fmt.Errorf("feed: %w", err)
	}
	for _, name := range names {
		some, err := readFile(name, now)
		if err != nil {
			return Feed{}, fmt.Errorf("feed: %w", err)
		}
		if out.add(some); len(out.Prefixes) > maxEntries {
			return Feed{}, fmt.Errorf("feed %s: more than %d entries", pattern, maxEntries)
		}
	}
	slices.SortFunc(out.Prefixes, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	out.Prefixes = slices.Compact(out.Prefixes)
	return out, nil
}

func readFile(name string, now time.Time) (Feed, error) {
	raw, err := files.Read(name, maxFile)
	if err != nil {
		return Feed{}, err
	}
	if strings.HasPrefix(strings.TrimSpace(string(raw[:min(len(raw), 64)])), "{") {
		return Bundle(name, raw, now)
	}
	list, err := List(name, raw)
	return Feed{Prefixes: list}, err
}

// List reads a plain text; the name stands in errors.
func List(name string, raw []byte) (out []netip.Prefix, err error) {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := prefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d:1: %w", name, n, err)
		}
		out = append(out, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%.60q is neither an address nor a CIDR", text)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is IPv4 written as IPv6", text)
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is everybody", text)
	}
	return p.Masked(), nil
}

// addressed is what of STIX patterning (section 9 of the standard) is understood:
// one or several addresses or networks, of one observation or of several, any of
// which is enough.
var addressed = regexp.MustCompile(`^\s*` + anyOf(`\[\s*`+anyOf(
	`ipv[46]-addr:value\s*(?:(?:=|\bISSUBSET\b)\s*`+quoted+`|\bIN\s*\(\s*`+quoted+`(?:\s*,\s*`+quoted+`)*\s*\))`)+`\s*\]`) + `\s*$`)

const quoted = `'([^'\\]+)'`

// anyOf matches one or more of an expression, joined by OR.
func anyOf(expression string) string {
	return expression + `(?:\s*\bOR\b\s*` + expression + `)*`
}

// literal is an address in a pattern.
var literal = regexp.MustCompile(quoted)

// Bundle reads a bundle of STIX 2.1, or 2.0; the name stands in errors. Objects other
// than indicators, and indicators of other things than addresses, are passed
// over.
func Bundle(name string, raw []byte, now time.Time) (out Feed, err error) {
	var b struct {
		Type    string            `json:"type"`
		Objects []json.RawMessage `json:"objects"`
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return out, fmt.Errorf("%s: %w", name, err)
	}
	if b.Type != "bundle" {
		return out, fmt.Errorf("%s: is a %q, not a bundle", name, b.Type)
	}
	for i, o := range b.Objects {
		some, err := indicator(o, now)
		if err != nil {
			return Feed{}, fmt.Errorf("%s: objects[%d]: %w", name, i, err)
		}
		out.add(some)
	}
	return out, nil
}

func indicator(raw json.RawMessage, now time.Time) (out Feed, err error) {
	var o struct {
		Type        string    `json:"type"`
		Pattern     string    `json:"pattern"`
		PatternType string    `json:"pattern_type"`
		From        time.Time `json:"valid_from"`
		Until       time.Time `json:"valid_until"`
		Revoked     bool      `json:"revoked"`
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil || kind.Type != "indicator" {
		return out, err
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return out, err
	}
	stix := o.PatternType == "" || o.PatternType == "stix" // 2.0 has one language of patterns, and no word for it
	ended := !o.Until.IsZero() && !now.Before(o.Until)
	if !stix || o.Revoked || ended || !addressed.MatchString(o.Pattern) {
		return out, nil
	}
	if now.Before(o.From) {
		out.change(o.From)
		return out, nil
	}
	for _, m := range literal.FindAllStringSubmatch(o.Pattern, -1) {
		p, err := prefix(m[1])
		if err != nil {
			return Feed{}, errors.Join(fmt.Errorf("pattern %.80q", o.Pattern), err)
		}
		out.Prefixes = append(out.Prefixes, p)
	}
	out.change(o.Until)
	return out, nil
}
