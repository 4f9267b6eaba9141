package topology

import (
	"hash/fnv"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Domains assigns the bridges of a host the observation domains of their taps:
// a hash of the bridge's name, so that a domain survives restarts and tells
// exporters apart without any state. The zero value is ready.
type Domains struct {
	numbers map[string]uint16
}

// Assign returns the observation domain of each bridge. A bridge keeps its
// domain for as long as each call names it; where two names hash alike, the
// one that came first keeps the hash and the other takes the next free number.
func (d *Domains) Assign(bridges []string) map[string]uint32 {
	next := make(map[string]uint16, len(bridges))
	taken := make(map[uint16]bool, len(bridges))
	var fresh []string
	for _, name := range bridges {
		if n, ok := d.numbers[name]; ok {
			next[name], taken[n] = n, true
			continue
		}
		fresh = append(fresh, name)
	}
	slices.Sort(fresh) // independent of the order of the bridges
	for _, name := range fresh {
		n := domainHash(name)
		for range len(taken) { // more probes than taken numbers are not needed
			if !taken[n] {
				break
			}
			n++
		}
		next[name], taken[n] = n, true
	}
	d.numbers = next
	domains := make(map[string]uint32, len(next))
	for name, n := range next {
		domains[name] = flow.TapDomain(n)
	}
	return domains
}

// domainHash folds a 32-bit FNV-1a hash into 16 bits.
func domainHash(name string) uint16 {
	h := fnv.New32a()
	h.Write([]byte(name)) // never fails
	sum := h.Sum32()
	return uint16(sum>>16) ^ uint16(sum)
}
