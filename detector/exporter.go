package detector

import "github.com/platelet-sdn/platelet/flowcollector/flow"

// maxExporters bounds the list; later ones share the last number.
const maxExporters = 1024

// exporters numbers exporters, so that keys stay small. Consecutive records
// mostly come from the same one, which is checked first.
type exporters struct {
	list []flow.Exporter
	last int
}

// A host's sFlow agents and IPFIX domains count as one: its interface indices
// are the kernel's, whoever reports them, and an attack that both see is one.
func (x *exporters) number(e flow.Exporter) uint16 {
	e.Domain = 0
	if x.last < len(x.list) && x.list[x.last] == e {
		return uint16(x.last)
	}
	for i := range x.list {
		if x.list[i] == e {
			x.last = i
			return uint16(i)
		}
	}
	if len(x.list) < maxExporters {
		x.list = append(x.list, e)
	}
	x.last = len(x.list) - 1
	return uint16(x.last)
}

func (x *exporters) at(n uint16) flow.Exporter {
	if int(n) < len(x.list) {
		return x.list[n]
	}
	return flow.Exporter{}
}
