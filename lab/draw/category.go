package draw

import (
	"cmp"
	"hash/fnv"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// category is what a colour stands for.
type category struct{ name, colour string }

// plain is the colour of what no label speaks of.
func plain(name string) category { return category{cmp.Or(name, "other"), "#64748b"} }

// routing is what forwards for others.
func routing() category { return category{"gateway, router", "#7c3aed"} }

// roles are categories that a role makes, whatever the app.
func roles() map[string]category {
	return map[string]category{
		"attacker": {"attacker", "#dc2626"},
		"outsider": {"attacker outside", "#be123c"},
		"gateway":  routing(),
		"edge":     routing(),
		"router":   routing(),
		"internet": {"internet", "#0284c7"},
	}
}

// apps are the colours of the apps that our labs know.
func apps() map[string]string {
	return map[string]string{
		"web": "#ea580c", "dns": "#0d9488", "db": "#a16207", "api": "#65a30d", "lb": "#c026d3", "mail": "#db2777", "backup": "#78716c", "ntp": "#0e7490",
		"monitor": "#475569", "scanner": "#9333ea", "camera": "#4f46e5", "sensor": "#059669", "mqtt": "#ca8a04", "plc": "#b45309", "hmi": "#0369a1",
		"engineering": "#15803d", "video": "#6d28d9", "printer": "#57534e",
	}
}

// spare are the colours that other apps share.
func spare() []string {
	return []string{"#0f766e", "#9a3412", "#3f6212", "#86198f", "#155e75", "#854d0e"}
}

// categorise colours a node by its labels: a role that matters to everyone,
// else what it serves, else that it is a client.
func categorise(n clab.Node) category {
	role, app := n.Labels["role"], n.Labels["app"]
	if c, ok := roles()[role]; ok {
		return c
	}
	if app == "router" || app == "gateway" {
		return routing()
	}
	if colour, ok := apps()[app]; ok {
		return category{app, colour}
	}
	if role == "client" {
		return category{"client", "#2563eb"}
	}
	if app == "" {
		return plain(role)
	}
	h := fnv.New32a()
	h.Write([]byte(app))
	return category{app, spare()[h.Sum32()%uint32(len(spare()))]}
}

// word is what a node says of itself beside its name.
func word(n clab.Node) string {
	return cmp.Or(n.Labels["function"], n.Labels["app"], n.Labels["role"])
}

// kindName is what people call a kind of switch.
func kindName(kind string) string {
	switch kind {
	case clab.KindOVSBridge:
		return "Open vSwitch bridge"
	case clab.KindBridge:
		return "Linux bridge"
	}
	return kind
}

// panelOf is the group that a node belongs to: attackers, clients, a tier, or
// what is left. Apps with many nodes get a group of their own later.
func panelOf(n clab.Node) string {
	switch role, tier := n.Labels["role"], n.Labels["tier"]; {
	case role == "attacker", role == "outsider":
		return "attackers"
	case n.Labels["env"] == "dev":
		return "env dev"
	case tier != "":
		return "tier " + tier
	case role == "client":
		return "clients"
	}
	return services
}

// services is the group of what belongs to no other.
const services = "services"

// crowd is how many nodes of one app under one switch get a group of their
// own.
const crowd = 3

// panels groups the hosts of a switch, attackers last.
func panels(sw *vertex) []panel {
	apps := map[string]int{}
	for _, h := range sw.hosts {
		if h.panel == services {
			apps[h.says]++
		}
	}
	var out []panel
	put := func(title string, h *vertex) {
		for i := range out {
			if out[i].title == title {
				out[i].hosts = append(out[i].hosts, h)
				return
			}
		}
		out = append(out, panel{title: title, hosts: []*vertex{h}})
	}
	for _, late := range []bool{false, true} {
		for _, h := range sw.hosts {
			if (h.panel == "attackers") != late {
				continue
			}
			title := h.panel
			if title == services && h.says != "" && apps[h.says] >= crowd {
				title = h.says + "s"
			}
			put(title, h)
		}
	}
	return out
}
