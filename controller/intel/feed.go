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
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// maxFile bounds one file of a feed, in bytes.
	maxFile = 64 << 20
	// maxEntries bounds a feed.
	maxEntries = 1_000_000
)

// Read reads the files that match a pattern, all of them one feed. In a text
// there is an address or a CIDR a line, and "#" begins a comment. A bundle
// counts with the indicators that are valid at a time, not revoked, and match
// addresses alone. The prefixes are sorted, each there once. A pattern may
// match nothing; a file that is named must be there. Errors say file and line,
// or the indicator.
func Read(pattern string, now time.Time) ([]netip.Prefix, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("feed %s: %w", pattern, err)
	}
	if len(names) == 0 && !strings.ContainsAny(pattern, "*?[") {
		return nil, fmt.Errorf("feed %s: %w", pattern, os.ErrNotExist)
	}
	var out []netip.Prefix
	for _, name := range names {
		some, err := readFile(name, now)
		if err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		if out = append(out, some...); len(out) > maxEntries {
			return nil, fmt.Errorf("feed %s: more than %d entries", pattern, maxEntries)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	return slices.Compact(out), nil
}

func readFile(name string, now time.Time) ([]netip.Prefix, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: has more than %d bytes", name, maxFile)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.TrimSpace(string(raw[:min(len(raw), 64)])), "{") {
		return Bundle(name, raw, now)
	}
	return List(name, raw)
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
func Bundle(name string, raw []byte, now time.Time) (out []netip.Prefix, err error) {
	var b struct {
		Type    string            `json:"type"`
		Objects []json.RawMessage `json:"objects"`
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if b.Type != "bundle" {
		return nil, fmt.Errorf("%s: is a %q, not a bundle", name, b.Type)
	}
	for i, o := range b.Objects {
		some, err := indicator(o, now)
		if err != nil {
			return nil, fmt.Errorf("%s: objects[%d]: %w", name, i, err)
		}
		out = append(out, some...)
	}
	return out, nil
}

func indicator(raw json.RawMessage, now time.Time) (out []netip.Prefix, err error) {
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
		return nil, err
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	if o.PatternType != "" && o.PatternType != "stix" || // 2.0 has one language of patterns, and no word for it
		o.Revoked || now.Before(o.From) || !o.Until.IsZero() && !now.Before(o.Until) {
		return nil, nil
	}
	if !addressed.MatchString(o.Pattern) {
		return nil, nil
	}
	for _, m := range literal.FindAllStringSubmatch(o.Pattern, -1) {
		p, err := prefix(m[1])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("pattern %.80q", o.Pattern), err)
		}
		out = append(out, p)
	}
	return out, nil
}
