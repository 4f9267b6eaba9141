package policy

import (
	"fmt"
	"net/netip"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

const (
	maxWorkloads = 1_000_000
	maxAddrs     = 1_000 // of one workload
)

// inventoryFile is an inventory as people and programs write it down: a list
// of workloads, or a mapping when there are feeds and assets as well.
type inventoryFile struct {
	Workloads []Workload          `yaml:"workloads,omitempty"`
	Feeds     map[string][]Prefix `yaml:"feeds,omitempty"`
	Assets    map[string][]Prefix `yaml:"assets,omitempty"`

	list bool
}

// UnmarshalStrict reads either form.
func (f *inventoryFile) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() == yaml.SequenceNode {
		f.list = true
		return n.Decode(&f.Workloads)
	}
	type mapping inventoryFile
	var m mapping
	err := n.Decode(&m)
	*f = inventoryFile(m)
	return err
}

// ReadInventory reads an inventory from YAML or JSON: a list of workloads with
// name, addrs, mac, switch, port, labels and risk, or a mapping with workloads,
// feeds and assets. The error is of type strictyaml.Errors when the file is at
// fault.
func ReadInventory(file Source) (Inventory, error) {
	doc, err := strictyaml.Parse(file.Name, file.Data)
	if err != nil {
		return Inventory{}, err
	}
	var f inventoryFile
	if err := doc.Decode(&f); err != nil {
		return Inventory{}, err
	}
	at := func(format string, args ...any) string {
		path := fmt.Sprintf(format, args...)
		if f.list {
			return path
		}
		return "workloads" + path
	}
	var errs strictyaml.Errors
	want := func(ok bool, path, format string, args ...any) {
		if !ok && len(errs) < maxFaults {
			errs = append(errs, doc.Errorf(path, format, args...))
		}
	}
	want(len(f.Workloads) <= maxWorkloads, "", "%d workloads, at most %d are allowed", len(f.Workloads), maxWorkloads)
	seen := map[string]int{}
	for i, w := range f.Workloads {
		first, taken := seen[w.Name]
		want(!taken, at("[%d].name", i), "the name %s is taken by entry %d", w.Name, first+1)
		want(w.Name != "" && len(w.Name) <= maxName && printable(w.Name), at("[%d].name", i), "%q is no name", w.Name)
		seen[w.Name] = i
		want(len(w.Addrs) <= maxAddrs, at("[%d].addrs", i), "%d addresses, at most %d are allowed", len(w.Addrs), maxAddrs)
		for n, a := range w.Addrs {
			want(a.IsValid() && a.Zone() == "" && !a.Is4In6(), at("[%d].addrs[%d]", i, n), "%q is not an address, has a zone, or is IPv4 written as IPv6", a)
		}
	}
	if err := errs.Err(); err != nil {
		return Inventory{}, err
	}
	return Inventory{Workloads: f.Workloads, Feeds: plain(f.Feeds), Assets: plain(f.Assets)}, nil
}

func plain(named map[string][]Prefix) map[string][]netip.Prefix {
	out := make(map[string][]netip.Prefix, len(named))
	for name, list := range named {
		for _, p := range list {
			out[name] = append(out[name], p.Prefix)
		}
	}
	return out
}
