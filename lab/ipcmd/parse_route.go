package ipcmd

import (
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// routeTypes are the types of route that are supported.
func routeTypes() []string { return []string{"unicast", "blackhole", "unreachable", "prohibit"} }

// protocols are those of /etc/iproute2/rt_protos that a topology may name.
func protocols() map[string]int {
	return map[string]int{"kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT, "static": unix.RTPROT_STATIC, "ra": unix.RTPROT_RA, "dhcp": unix.RTPROT_DHCP,
		"zebra": unix.RTPROT_ZEBRA, "bird": unix.RTPROT_BIRD}
}

// tables are those of /etc/iproute2/rt_tables.
func tables() map[string]int {
	return map[string]int{"main": unix.RT_TABLE_MAIN, "local": unix.RT_TABLE_LOCAL, "default": unix.RT_TABLE_DEFAULT}
}

func (c *Command) parseRoute(w *words) error {
	r := &c.Route
	r.Type, r.Protocol, r.Scope = "unicast", -1, -1
	byDefault := false
	for {
		word, more := w.next()
		if !more {
			break
		}
		if word == "to" && len(w.left) > 0 {
			word, _ = w.next()
		}
		if word == "default" && !r.Dst.IsValid() && !byDefault {
			byDefault = true
			continue
		}
		if err := c.routeWord(word, w, byDefault); err != nil {
			return err
		}
	}
	if byDefault {
		r.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if c.Family != FamilyV6 {
			c.Family, r.Dst = FamilyV4, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
	}
	if c.Verb == VerbShow || c.Verb == VerbFlush {
		return c.checkRouteFilter()
	}
	return c.checkRoute()
}

func (c *Command) checkRouteFilter() error {
	r := c.Route
	if r.Via.IsValid() || r.Src.IsValid() || r.Metric > 0 || r.MTU > 0 || r.OnLink || r.Type != "unicast" || r.Protocol >= 0 || r.Scope >= 0 {
		return syntax("route %s takes a destination, a dev and a table here", c.Verb)
	}
	if c.Verb == VerbFlush && c.Dev == "" {
		return syntax("flush needs a dev: it would take the routes of all interfaces")
	}
	return nil
}

func (c *Command) checkRoute() error {
	r := c.Route
	if !r.Dst.IsValid() {
		return syntax("route %s needs a destination", c.Verb)
	}
	if r.Dst != r.Dst.Masked() {
		return syntax("%s: has bits set behind its prefix (%s is the subnet)", r.Dst, r.Dst.Masked())
	}
	if r.Type != "unicast" && (r.Via.IsValid() || c.Dev != "") {
		return syntax("a route of type %s has neither via nor dev", r.Type)
	}
	if r.Type == "unicast" && c.Verb != VerbDelete && !r.Via.IsValid() && c.Dev == "" {
		return syntax("route %s needs \"via ADDRESS\" or \"dev NAME\"", c.Verb)
	}
	return nil
}

func (c *Command) routeWord(word string, w *words, byDefault bool) (err error) {
	r := &c.Route
	switch word {
	case "dev", "oif":
		if word, err = w.value(word); err == nil {
			err = c.dev(word)
		}
	case "via":
		r.Via, err = c.via(w)
	case "src":
		if word, err = w.value("src"); err == nil {
			r.Src, err = c.addr(word)
		}
	case "metric", "priority", "preference":
		r.Metric, err = w.number(word, 0, math.MaxInt32)
	case "table":
		r.Table, err = w.table()
	case "proto", "protocol":
		r.Protocol, err = w.named(word, protocols())
	case "scope":
		r.Scope, err = w.named("scope", scopes())
	case "mtu":
		r.MTU, err = w.number("mtu", 1, math.MaxInt32)
	case "onlink":
		r.OnLink = true
	default:
		if slices.Contains(routeTypes(), word) && !r.Dst.IsValid() && !byDefault {
			r.Type = word
			return nil
		}
		if r.Dst.IsValid() || byDefault {
			return syntax("%q is not supported after the destination", word)
		}
		r.Dst, err = c.prefix(word)
	}
	return err
}

// via reads a next hop, whose family may stand before it.
func (c *Command) via(w *words) (netip.Addr, error) {
	word, err := w.value("via")
	if err != nil {
		return netip.Addr{}, err
	}
	if family, ok := map[string]Family{"inet": FamilyV4, "inet6": FamilyV6}[word]; ok {
		if c.Family != FamilyAny && c.Family != family {
			return netip.Addr{}, syntax("via %s: a next hop of the other family is not supported", word)
		}
		c.Family = family
		if word, err = w.value("via"); err != nil {
			return netip.Addr{}, err
		}
	}
	return c.addr(word)
}

// table reads a routing table's name or number.
func (w *words) table() (int, error) {
	if len(w.left) > 0 {
		if n, ok := tables()[w.left[0]]; ok {
			w.next()
			return n, nil
		}
	}
	return w.number("table", 1, math.MaxInt32)
}
