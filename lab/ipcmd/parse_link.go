package ipcmd

import (
	"math"

	"golang.org/x/sys/unix"
)

func (c *Command) parseLink(w *words) error {
	for {
		word, more := w.next()
		if !more {
			break
		}
		if err := c.linkWord(word, w); err != nil {
			return err
		}
	}
	if c.Verb == VerbShow {
		return nil
	}
	if c.Dev == "" {
		return syntax("link set needs an interface")
	}
	if l := c.Link; l.Up == nil && l.MTU == 0 && l.HardwareAddr == nil && l.Rename == "" && l.Promisc == nil && l.ARP == nil && l.TxQueueLen == nil {
		return syntax("link set needs something to set: up, down, mtu, address, name, promisc, arp or txqueuelen")
	}
	return nil
}

func (c *Command) linkWord(word string, w *words) (err error) {
	l := &c.Link
	if c.Verb == VerbShow {
		return c.keywordDev(word, w)
	}
	switch word {
	case "up":
		l.Up = new(true)
	case "down":
		l.Up = new(false)
	case "mtu":
		l.MTU, err = w.number("mtu", 1, math.MaxInt32)
	case "address":
		if word, err = w.value("address"); err == nil {
			l.HardwareAddr, err = hardwareAddr(word)
		}
	case "name":
		var to Command
		if word, err = w.value("name"); err == nil {
			err = to.dev(word)
		}
		l.Rename = word
	case "promisc":
		l.Promisc, err = w.onOff("promisc")
	case "arp":
		l.ARP, err = w.onOff("arp")
	case "txqueuelen", "txqlen", "qlen":
		var n int
		n, err = w.number(word, 0, math.MaxInt32)
		l.TxQueueLen = &n
	default:
		if c.Dev != "" {
			return syntax("link set: %q is not supported: there are up, down, mtu, address, name, promisc, arp and txqueuelen", word)
		}
		return c.keywordDev(word, w)
	}
	return err
}

func (w *words) onOff(keyword string) (*bool, error) {
	v, err := w.value(keyword)
	if err != nil {
		return nil, err
	}
	if v != "on" && v != "off" {
		return nil, syntax("%s %q: needs on or off", keyword, v)
	}
	return new(v == "on"), nil
}

func (c *Command) parseNeighbour(w *words) error {
	for {
		word, more := w.next()
		if !more {
			break
		}
		if err := c.neighbourWord(word, w); err != nil {
			return err
		}
	}
	n := &c.Neighbour
	needsMAC := n.State == 0 || n.State&(unix.NUD_PERMANENT|unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0
	switch c.Verb {
	case VerbShow:
		return nil
	case VerbFlush:
		if c.Dev == "" {
			return syntax("flush needs a dev: it would take the neighbours of all interfaces")
		}
		return nil
	}
	switch {
	case !n.Addr.IsValid():
		return syntax("neighbour %s needs an address", c.Verb)
	case c.Dev == "":
		return syntax("neighbour %s needs \"dev NAME\"", c.Verb)
	case c.Verb != VerbDelete && !n.Proxy && n.HardwareAddr == nil && needsMAC:
		return syntax("neighbour %s needs \"lladdr ADDRESS\"", c.Verb)
	}
	return nil
}

func (c *Command) neighbourWord(word string, w *words) (err error) {
	n := &c.Neighbour
	switch {
	case word == "dev", c.Verb == VerbShow, c.Verb == VerbFlush:
		return c.keywordDev(word, w)
	case word == "lladdr":
		if word, err = w.value("lladdr"); err == nil {
			n.HardwareAddr, err = hardwareAddr(word)
		}
	case word == "nud", word == "state":
		n.State, err = w.named(word, states())
	default:
		n.Proxy = n.Proxy || word == "proxy"
		if word == "to" || word == "proxy" {
			if word, err = w.value(word); err != nil {
				return err
			}
		}
		if n.Addr.IsValid() {
			return syntax("%q is not supported after the address", word)
		}
		n.Addr, err = c.addr(word)
	}
	return err
}

// states are the reachability states of neighbours, see ip-neighbour(8).
func states() map[string]int {
	return map[string]int{
		"permanent": unix.NUD_PERMANENT, "reachable": unix.NUD_REACHABLE, "noarp": unix.NUD_NOARP, "none": unix.NUD_NONE,
		"stale": unix.NUD_STALE, "incomplete": unix.NUD_INCOMPLETE, "delay": unix.NUD_DELAY, "probe": unix.NUD_PROBE, "failed": unix.NUD_FAILED,
	}
}
