package topology_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

func TestDomainsAreStable(t *testing.T) {
	var d, again topology.Domains
	first := d.Assign([]string{"br-ex", "br-tun", "br0"})
	if !maps.Equal(first, again.Assign([]string{"br0", "br-ex", "br-tun"})) {
		t.Error("the domains depend on the order or the process")
	}
	more := d.Assign([]string{"br-new", "br0", "br-tun", "br-ex"})
	for name, domain := range first {
		if more[name] != domain || !flow.IsTapDomain(domain) {
			t.Errorf("%s moved from %x to %x", name, domain, more[name])
		}
	}
}

func TestDomainsDoNotCollide(t *testing.T) {
	var names []string
	for n := range 3000 { // some of so many hash alike
		names = append(names, fmt.Sprintf("br%d", n))
	}
	var d topology.Domains
	first, owner := d.Assign(names), map[uint32]string{}
	probed := 0
	for _, name := range names {
		if other := owner[first[name]]; other != "" {
			t.Errorf("%s and %s share %x", name, other, first[name])
		}
		owner[first[name]] = name
		var alone topology.Domains
		if alone.Assign([]string{name})[name] != first[name] {
			probed++
		}
	}
	if probed == 0 {
		t.Error("no collision was tried")
	}
	// Whoever remains keeps its number although the name before it is gone.
	rest := d.Assign(names[1000:])
	for _, name := range names[1000:] {
		if rest[name] != first[name] {
			t.Errorf("%s moved", name)
		}
	}
}
