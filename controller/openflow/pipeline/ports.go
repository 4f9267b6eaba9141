package pipeline

import (
	"maps"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// ports maps interface names to OpenFlow port numbers. The protocol carries
// the first 15 bytes of a name; a name that two ports share resolves to
// neither, because a rule on the wrong port is worse than a rule that waits.
type ports struct{ byName map[string]map[uint32]bool }

func newPorts(list []openflow.Port) *ports {
	p := &ports{byName: map[string]map[uint32]bool{}}
	for _, port := range list {
		p.add(port)
	}
	return p
}

func (p *ports) clone() *ports {
	n := &ports{byName: make(map[string]map[uint32]bool, len(p.byName))}
	for name, numbers := range p.byName {
		n.byName[name] = maps.Clone(numbers)
	}
	return n
}

func (p *ports) add(port openflow.Port) {
	numbers := p.byName[port.Name]
	if numbers == nil {
		numbers = map[uint32]bool{}
		p.byName[port.Name] = numbers
	}
	numbers[port.Number] = true
}

// update follows a port-status message and reports whether any name now
// resolves differently.
func (p *ports) update(s openflow.PortStatus) bool {
	before, had := p.number(s.Port.Name)
	renamed := p.remove(s.Port.Number)
	if s.Reason != openflow.PortDeleted {
		p.add(s.Port)
	}
	after, has := p.number(s.Port.Name)
	return had != has || before != after || renamed != "" && renamed != s.Port.Name
}

// remove forgets a port number and returns the name it had.
func (p *ports) remove(number uint32) string {
	for name, numbers := range p.byName {
		if numbers[number] {
			delete(numbers, number)
			return name
		}
	}
	return ""
}

// number resolves an interface name.
func (p *ports) number(name string) (uint32, bool) {
	numbers := p.byName[name[:min(len(name), openflow.PortNameLen)]]
	if len(numbers) != 1 {
		return 0, false
	}
	for n := range numbers {
		return n, true
	}
	return 0, false
}

// name returns the name of a port, "" when it is not known or two ports share
// it.
func (p *ports) name(number uint32) string {
	for name, numbers := range p.byName {
		if numbers[number] && len(numbers) == 1 {
			return name
		}
	}
	return ""
}
