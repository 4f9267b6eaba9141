package config

import (
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// Files is what connections need of it.
func (t *TLS) Files() openflow.TLS {
	return openflow.TLS{CA: t.CA, Certificate: t.Certificate, Key: t.Key, Names: t.Names}
}

// HasSockets reports whether the bridges' management sockets can be found: the
// database is of this machine, or it was said where they are.
func (o *OVS) HasSockets() bool { return o.RunDir != "" || strings.HasPrefix(o.DB, "unix:") }

// check calls want for each value that has to do with reaching the switches.
func (o *OVS) check(want func(ok bool, path, format string, args ...any)) {
	secure := strings.HasPrefix(o.DB, "ssl:")
	if scheme, address, _ := strings.Cut(o.DB, ":"); scheme == "unix" {
		want(filepath.IsAbs(address), "ovs.db", "%q: the socket needs an absolute path", o.DB)
	} else {
		host, port, err := net.SplitHostPort(address)
		want((scheme == "tcp" || scheme == "ssl") && err == nil && host != "" && port != "", "ovs.db",
			"%q is none of unix:/PATH, tcp:HOST:PORT, ssl:HOST:PORT", o.DB)
	}
	for _, bridge := range slices.Sorted(maps.Keys(o.OpenFlow)) {
		t, err := openflow.ParseTarget(o.OpenFlow[bridge])
		want(err == nil, "ovs.openflow."+bridge, "%v", err)
		secure = secure || t.Secure()
	}
	t := &o.TLS
	given := t.CA != "" || t.Certificate != "" || t.Key != "" || len(t.Names) > 0
	for _, file := range []struct{ path, name string }{{"ovs.tls.ca", t.CA}, {"ovs.tls.certificate", t.Certificate}, {"ovs.tls.key", t.Key}} {
		want(file.name != "" || !given, file.path, "is missing")
		want(file.name != "" || given || !secure, file.path, "is missing, and a target is ssl: or pssl:")
	}
	for _, host := range slices.Sorted(maps.Keys(t.Names)) {
		want(host != "" && t.Names[host] != "", "ovs.tls.names."+host, "needs a host and the name that its certificate carries")
	}
}

// checkRemote holds what is said of bridges against a database on another
// machine.
func (f *File) checkRemote(want func(ok bool, path, format string, args ...any)) {
	for _, bridge := range slices.Sorted(maps.Keys(f.OVS.OpenFlow)) {
		want(len(f.Bridges) == 0 || slices.Contains(f.Bridges, bridge), "ovs.openflow."+bridge, "is not among the bridges")
	}
	if f.OVS.HasSockets() {
		return
	}
	for i, bridge := range f.Bridges {
		want(f.OVS.OpenFlow[bridge] != "", "ovs.openflow", "has no target for bridges[%d], %s: the database is reached over the network, so its management socket is not here", i, bridge)
	}
	_, address, _ := strings.Cut(f.OVS.DB, ":")
	host, _, _ := net.SplitHostPort(address)
	if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && a.IsLoopback() {
		return // a tunnel, or a database of this machine
	}
	for _, to := range []struct {
		path string
		addr netip.Addr
	}{{"telemetry.sflow", f.Telemetry.SFlow.Addr()}, {"telemetry.ipfix", f.Telemetry.IPFIX.Addr()}} {
		want(!to.addr.IsLoopback() && !to.addr.IsUnspecified(), to.path,
			"%s is not where the switch of %s can send to: give an address of this machine that it reaches", to.addr, f.OVS.DB)
	}
}

// OpenC2 says where other machines may ask for containment; see package openc2.
type OpenC2 struct {
	// address and port that commands are taken at, as 10.0.0.2:8443; empty takes none
	Listen string `yaml:"listen"`
	// our certificate, in PEM; may be left out on a loopback address, where HTTP without TLS will do
	Certificate string `yaml:"certificate"`
	// its private key, in PEM
	Key string `yaml:"key"`
	// file with a line for each who may ask: a name and a bearer token of 20 characters or more
	Tokens string `yaml:"tokens"`
}

func (o *OpenC2) check(want func(ok bool, path, format string, args ...any)) {
	if o.Listen == "" {
		want(o.Certificate == "" && o.Key == "" && o.Tokens == "", "openc2.listen", "is missing")
		return
	}
	at, err := netip.ParseAddrPort(o.Listen)
	want(err == nil, "openc2.listen", "%v", err)
	want(o.Tokens != "", "openc2.tokens", "is missing: nobody could be let in")
	want((o.Certificate == "") == (o.Key == ""), "openc2.key", "certificate and key belong together")
	want(err != nil || o.Certificate != "" || at.Addr().IsLoopback(), "openc2.certificate", "is missing, and %s is no loopback address", o.Listen)
}
