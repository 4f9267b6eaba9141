// Package agent gives the lab's traffic a place to come from: stations, which
// are network namespaces that a lab made, a fence that no packet of theirs
// leaves by, budgets that end every run, and the ground truth of what each
// agent did.
package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrOutside says that traffic would have left the lab.
var ErrOutside = errors.New("outside the lab")

// Fence is the set of addresses that a lab's agents may send to: the subnets
// on the lab's own links, what is link-local, and multicast, which no router
// of a lab carries further.
type Fence struct {
	prefixes []netip.Prefix
}

// NewFence makes a fence round the given subnets. A default route is no
// subnet: prefixes that would let everything pass are refused.
func NewFence(prefixes ...netip.Prefix) (*Fence, error) {
	f := &Fence{}
	for _, p := range prefixes {
		if !p.IsValid() || p.Bits() < 8 {
			return nil, fmt.Errorf("fence: %v is too wide for the subnet of a lab", p)
		}
		if p = p.Masked(); !slices.Contains(f.prefixes, p) {
			f.prefixes = append(f.prefixes, p)
		}
	}
	return f, nil
}

// Check is ErrOutside for an address that agents must not send to.
func (f *Fence) Check(to netip.Addr) error {
	to = to.Unmap().WithZone("")
	switch {
	case !to.IsValid():
		return fmt.Errorf("%w: no address", ErrOutside)
	case to.IsMulticast(), to.IsLinkLocalUnicast(), to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nil
	}
	for _, p := range f.prefixes {
		if p.Contains(to) {
			return nil
		}
	}
	return fmt.Errorf("%w: %v is in none of %v", ErrOutside, to, f)
}

// Prefixes lists the fence's subnets.
func (f *Fence) Prefixes() []netip.Prefix { return slices.Clone(f.prefixes) }

// String lists the fence's subnets.
func (f *Fence) String() string {
	words := make([]string, len(f.prefixes))
	for i, p := range f.prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
