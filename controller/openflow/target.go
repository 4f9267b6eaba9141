package openflow

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is where OpenFlow is spoken when a target names no port (IANA,
// and Open vSwitch since 2.4).
const DefaultPort = 6653

// maxSocketPath is what struct sockaddr_un has room for, with its end.
const maxSocketPath = 107

// Target says how a switch is reached, in Open vSwitch's own words (ovs-vswitchd.conf.db(5),
// Controller): we dial unix:, tcp: and ssl:, and await switches that dial us at ptcp: and pssl:.
type Target struct {
	// Scheme is unix, tcp, ssl, ptcp or pssl.
	Scheme string
	// Path is the socket of unix.
	Path string
	// Host is a name or an address without brackets; it may be empty for
	// ptcp and pssl, which then listen on every address.
	Host string
	// Port is 0 only for ptcp and pssl: any free port.
	Port uint16
}

// ParseTarget reads unix:PATH, tcp:HOST[:PORT], ssl:HOST[:PORT],
// ptcp:[PORT][:HOST] or pssl:[PORT][:HOST]. The port defaults to DefaultPort;
// IPv6 addresses stand in brackets.
func ParseTarget(s string) (Target, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	t, err := Target{Scheme: scheme}, error(nil)
	switch {
	case !ok:
		err = errors.New("has no scheme")
	case scheme == "unix":
		t.Path = rest
		if rest == "" || len(rest) > maxSocketPath {
			err = fmt.Errorf("a socket's path has 1 to %d bytes", maxSocketPath)
		}
	case scheme == "tcp" || scheme == "ssl":
		err = t.active(rest)
	case scheme == "ptcp" || scheme == "pssl":
		err = t.passive(rest)
	default:
		err = fmt.Errorf("unknown scheme %q", scheme)
	}
	if err != nil {
		return Target{}, fmt.Errorf("OpenFlow target %q: %w: want unix:PATH, tcp:HOST[:PORT], ssl:HOST[:PORT], ptcp:[PORT][:HOST] or pssl:[PORT][:HOST]", s, err)
	}
	return t, nil
}

// active reads HOST[:PORT].
func (t *Target) active(s string) error {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		if port == "" {
			return errors.New("the port is empty")
		}
	}
	if host == "" {
		return errors.New("the host is missing")
	}
	if err := t.host(host); err != nil {
		return err
	}
	if err := t.port(port); err != nil {
		return err
	}
	if t.Port == 0 {
		return errors.New("port 0 cannot be dialled")
	}
	return nil
}

// passive reads [PORT][:HOST].
func (t *Target) passive(s string) error {
	port, host, named := strings.Cut(s, ":")
	if named {
		if err := t.host(host); err != nil {
			return err
		}
		if _, err := netip.ParseAddr(t.Host); err != nil {
			return fmt.Errorf("%q is no address to listen on", host)
		}
	}
	return t.port(port)
}

func (t *Target) host(s string) error {
	if bare, ok := strings.CutPrefix(s, "["); ok {
		bare, ok = strings.CutSuffix(bare, "]")
		if a, err := netip.ParseAddr(bare); !ok || err != nil || !a.Is6() {
			return fmt.Errorf("%q is no IPv6 address in brackets", s)
		}
		t.Host = bare
		return nil
	}
	if strings.Contains(s, ":") {
		return fmt.Errorf("%q: an IPv6 address stands in brackets", s)
	}
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" {
		return fmt.Errorf("%q is neither an address nor a host name", s)
	}
	t.Host = s
	return nil
}

func (t *Target) port(s string) error {
	if s == "" {
		t.Port = DefaultPort
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q is not a number up to 65535", s)
	}
	t.Port = uint16(n)
	return nil
}

// Passive reports whether switches dial us.
func (t Target) Passive() bool { return t.Scheme == "ptcp" || t.Scheme == "pssl" }

// Secure reports whether the connection is under TLS.
func (t Target) Secure() bool { return t.Scheme == "ssl" || t.Scheme == "pssl" }

// address is the target in the words of package net.
func (t Target) address() (network, address string) {
	if t.Scheme == "unix" {
		return "unix", t.Path
	}
	return "tcp", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// String is the target in full, as ParseTarget reads it.
func (t Target) String() string {
	if t.Scheme == "unix" {
		return "unix:" + t.Path
	}
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	port := strconv.Itoa(int(t.Port))
	switch {
	case !t.Passive():
		return t.Scheme + ":" + host + ":" + port
	case host == "":
		return t.Scheme + ":" + port
	}
	return t.Scheme + ":" + port + ":" + host
}
