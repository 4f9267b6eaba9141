package ipcmd

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SyntaxError is a command that is not understood, or not supported.
type SyntaxError struct{ message string }

// Error says which word, and what was expected.
func (e *SyntaxError) Error() string { return e.message }

func syntax(format string, args ...any) error { return &SyntaxError{fmt.Sprintf(format, args...)} }

// words are the arguments that are left to read.
type words struct{ left []string }

// next takes a word; more is false at the end.
func (w *words) next() (word string, more bool) {
	if len(w.left) == 0 {
		return "", false
	}
	word, w.left = w.left[0], w.left[1:]
	return word, true
}

// value takes the value of a keyword.
func (w *words) value(keyword string) (string, error) {
	v, ok := w.next()
	if !ok {
		return "", syntax("%q needs a value", keyword)
	}
	return v, nil
}

// number takes the value of a keyword, a number between low and high.
func (w *words) number(keyword string, low, high int) (int, error) {
	v, err := w.value(keyword)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(v, 0, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		return 0, syntax("%s %q: needs a number from %d to %d", keyword, v, low, high)
	}
	return int(n), nil
}

// Parse reads the arguments of ip, without the program's name. Errors are of
// type *SyntaxError.
func Parse(args []string) (Command, error) {
	w := &words{args}
	var c Command
	if err := c.parseOptions(w); err != nil {
		return Command{}, err
	}
	object, ok := w.next()
	if !ok {
		return Command{}, syntax("needs an object: address, link, route or neighbour")
	}
	full, ok := abbreviated(object, "address", "route", "link", "neighbour", "neighbor")
	if !ok {
		return Command{}, syntax("object %q is not supported: there are address, link, route and neighbour", object)
	}
	if full == "neighbor" {
		full = "neighbour"
	}
	c.Object = Object(full)
	verb, ok := w.next()
	if !ok {
		verb = "show"
	}
	if err := c.parseVerb(verb); err != nil {
		return Command{}, err
	}
	parse := map[Object]func(*Command, *words) error{
		ObjectAddress: (*Command).parseAddress, ObjectLink: (*Command).parseLink,
		ObjectRoute: (*Command).parseRoute, ObjectNeighbour: (*Command).parseNeighbour,
	}[c.Object]
	if err := parse(&c, w); err != nil {
		return Command{}, err
	}
	return c, nil
}

// parseOptions reads what stands before the object.
func (c *Command) parseOptions(w *words) error {
	for len(w.left) > 0 && strings.HasPrefix(w.left[0], "-") {
		option, _ := w.next()
		switch strings.TrimPrefix(option, "-") {
		case "4":
			c.Family = FamilyV4
		case "6":
			c.Family = FamilyV6
		case "o", "oneline", "-oneline":
			c.OneLine = true
		case "f", "family", "-family":
			family, err := w.value(option)
			if err != nil {
				return err
			}
			switch family {
			case "inet":
				c.Family = FamilyV4
			case "inet6":
				c.Family = FamilyV6
			default:
				return syntax("family %q is not supported: there are inet and inet6", family)
			}
		default:
			return syntax("option %q is not supported: there are -4, -6, -f and -o", option)
		}
	}
	return nil
}

// parseVerb reads a verb, which may be abbreviated as in iproute2.
func (c *Command) parseVerb(word string) error {
	verbs := []string{"add", "delete", "flush", "replace", "show", "list", "lst"}
	if c.Object == ObjectLink {
		verbs = []string{"set", "show", "list", "lst"}
	}
	full, ok := abbreviated(word, verbs...)
	if !ok {
		return syntax("%q is not supported for %s: there are %s", word, c.Object, strings.Join(slices.DeleteFunc(verbs, func(v string) bool {
			return v == "list" || v == "lst"
		}), ", "))
	}
	if full == "list" || full == "lst" {
		full = "show"
	}
	c.Verb = Verb(full)
	return nil
}

// abbreviated finds the first of the words that begins with what was typed.
func abbreviated(typed string, full ...string) (string, bool) {
	for _, word := range full {
		if typed != "" && strings.HasPrefix(word, typed) {
			return word, true
		}
	}
	return "", false
}

// dev sets the interface.
func (c *Command) dev(name string) error {
	if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") {
		return syntax("%q is no interface name", name)
	}
	if c.Dev != "" {
		return syntax("two interfaces, %q and %q", c.Dev, name)
	}
	c.Dev = name
	return nil
}

// keywordDev reads "dev NAME", or a name alone where show and set take one.
func (c *Command) keywordDev(word string, w *words) error {
	if word != "dev" {
		return c.dev(word)
	}
	name, err := w.value("dev")
	if err != nil {
		return err
	}
	return c.dev(name)
}

// prefix reads an address with or without the length of a prefix.
func (c *Command) prefix(word string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(word)
	if err != nil {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, syntax("%q: needs an address such as 10.0.0.1/24 or fd00::1/64", word)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p, c.takeFamily(p.Addr(), word)
}

// addr reads an address.
func (c *Command) addr(word string) (netip.Addr, error) {
	a, err := netip.ParseAddr(word)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, syntax("%q: needs an address such as 10.0.0.1 or fd00::1", word)
	}
	return a, c.takeFamily(a, word)
}

// takeFamily holds every address of a command to one family.
func (c *Command) takeFamily(a netip.Addr, word string) error {
	family := FamilyV6
	if a.Is4() {
		family = FamilyV4
	}
	if a.Is4In6() {
		return syntax("%q: an IPv4 address is not written as IPv6 here", word)
	}
	if c.Family != FamilyAny && c.Family != family {
		return syntax("%q: needs an IPv%d address", word, c.Family)
	}
	c.Family = family
	return nil
}

func hardwareAddr(word string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(word)
	if err != nil || len(mac) != 6 {
		return nil, syntax("%q: needs a hardware address such as 02:00:00:00:00:01", word)
	}
	return mac, nil
}

// named reads the value of a keyword, one of the names or a number.
func (w *words) named(keyword string, names map[string]int) (int, error) {
	v, err := w.value(keyword)
	if err != nil {
		return 0, err
	}
	if n, ok := names[v]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(v, 0, 8)
	if err != nil {
		return 0, syntax("%s %q is not supported", keyword, v)
	}
	return int(n), nil
}

// scopes are those of /etc/iproute2/rt_scopes.
func scopes() map[string]int {
	return map[string]int{"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
}

func (c *Command) parseAddress(w *words) error {
	c.Address.Scope = -1
	brd := ""
	for {
		word, more := w.next()
		if !more {
			break
		}
		if err := c.addressWord(word, w, &brd); err != nil {
			return err
		}
	}
	a := &c.Address
	switch c.Verb {
	case VerbShow:
		return c.nothingButDev(a.Prefix.IsValid())
	case VerbFlush:
		if c.Dev == "" {
			return syntax("flush needs a dev: it would take the addresses of all interfaces")
		}
		return c.nothingButDev(a.Prefix.IsValid())
	}
	if !a.Prefix.IsValid() {
		return syntax("address %s needs an address", c.Verb)
	}
	if c.Dev == "" {
		return syntax("address %s needs \"dev NAME\"", c.Verb)
	}
	if a.ValidLft > 0 && (a.PreferredLft == 0 || a.PreferredLft > a.ValidLft) {
		return syntax("preferred_lft is greater than valid_lft")
	}
	return c.broadcast(brd)
}

// nothingButDev refuses what a show or flush of ours would not filter by.
func (c *Command) nothingButDev(more bool) error {
	if more {
		return syntax("%s %s takes an interface and nothing else here", c.Object, c.Verb)
	}
	return nil
}

// addressWord reads one word and what belongs to it. A broadcast address goes
// to brd as written: what it means depends on the address.
func (c *Command) addressWord(word string, w *words, brd *string) (err error) {
	a := &c.Address
	show := c.Verb == VerbShow || c.Verb == VerbFlush
	switch {
	case word == "dev", show:
		return c.keywordDev(word, w)
	case word == "broadcast", word == "brd":
		*brd, err = w.value(word)
	case word == "peer":
		if word, err = w.value("peer"); err == nil {
			a.Peer, err = c.prefix(word)
		}
	case word == "scope":
		a.Scope, err = w.named("scope", scopes())
	case word == "label":
		a.Label, err = w.value("label")
		if err == nil && len(a.Label) > 15 {
			err = syntax("label %q has more than 15 characters", a.Label)
		}
	case word == "nodad":
		a.NoDAD = true
	case word == "noprefixroute":
		a.NoPrefixRoute = true
	case word == "valid_lft":
		a.ValidLft, err = w.lifetime("valid_lft")
	case word == "preferred_lft":
		a.PreferredLft, err = w.lifetime("preferred_lft")
	default:
		if word == "local" {
			if word, err = w.value("local"); err != nil {
				return err
			}
		}
		if a.Prefix.IsValid() {
			return syntax("%q is not supported after the address", word)
		}
		a.Prefix, err = c.prefix(word)
	}
	return err
}

// broadcast reads an address, "+" for the subnet's last, or "-" for its first.
func (c *Command) broadcast(word string) (err error) {
	a := &c.Address
	if word == "" {
		return nil
	}
	if !a.Prefix.Addr().Is4() {
		return syntax("broadcast %q: only IPv4 has broadcast addresses", word)
	}
	if word != "+" && word != "-" {
		a.Broadcast, err = c.addr(word)
		return err
	}
	if a.Prefix.Bits() > 30 {
		return nil // too small to have one
	}
	b := a.Prefix.Masked().Addr().As4()
	if word == "+" {
		host := uint32(math.MaxUint32) >> a.Prefix.Bits()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|host)
	}
	a.Broadcast = netip.AddrFrom4(b)
	return nil
}

// lifetime reads seconds or "forever".
func (w *words) lifetime(keyword string) (int, error) {
	if len(w.left) > 0 && w.left[0] == "forever" {
		w.next()
		return 0, nil
	}
	return w.number(keyword, 1, math.MaxInt32)
}
