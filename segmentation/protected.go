package segmentation

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrProtected is wrapped by every refusal to act on a protected asset.
var ErrProtected = errors.New("protected asset")

// Protected is the set of addresses that no containment may ever hit:
// gateways, DNS, controllers, collectors, the management path. The zero value
// protects nothing.
type Protected struct {
	prefixes []netip.Prefix
}

// NewProtected returns the set of the given prefixes.
func NewProtected(prefixes []netip.Prefix) Protected {
	p := Protected{prefixes: make([]netip.Prefix, 0, len(prefixes))}
	for _, x := range prefixes {
		p.prefixes = append(p.prefixes, x.Masked())
	}
	return p
}

// Covers reports whether an address is protected, and by which prefix.
func (p Protected) Covers(a netip.Addr) (netip.Prefix, bool) {
	a = a.Unmap()
	for _, x := range p.prefixes {
		if x.Contains(a) {
			return x, true
		}
	}
	return netip.Prefix{}, false
}

// refuse returns an error when containment of the address is forbidden.
func (p Protected) refuse(a netip.Addr) error {
	if x, ok := p.Covers(a); ok {
		return fmt.Errorf("%w: %s is in %s", ErrProtected, a, x)
	}
	return nil
}
