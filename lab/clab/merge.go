package clab

import (
	"fmt"
	"slices"
	"strings"
)

// levels are the definitions that make up one node, the narrowest first:
// node, group, kind, defaults. What is not there is an empty definition.
type levels [4]*rawDefinition

// nodeLevels finds a node's levels. Which group and which kind they are is
// decided by rules of their own: a kind may come from the group, a group
// from the kind, and both from the defaults.
func (f *rawFile) nodeLevels(n *rawDefinition) (l levels, kind, group string) {
	top := f.Topology
	kind, group = f.kindOf(n), f.groupOf(n)
	l = levels{n, top.Groups[group], top.Kinds[kind], &top.Defaults}
	for i := range l {
		if l[i] == nil {
			l[i] = &rawDefinition{}
		}
	}
	return l, kind, group
}

func (f *rawFile) kindOf(n *rawDefinition) string {
	top := f.Topology
	if n != nil {
		if n.Kind != "" {
			return string(n.Kind)
		}
		if g := top.Groups[string(n.Group)]; g != nil && g.Kind != "" {
			return string(g.Kind)
		}
	}
	if g := top.Groups[string(top.Defaults.Group)]; g != nil && g.Kind != "" {
		return string(g.Kind)
	}
	return string(top.Defaults.Kind)
}

func (f *rawFile) groupOf(n *rawDefinition) string {
	top := f.Topology
	if n == nil {
		return string(top.Defaults.Group)
	}
	if n.Group != "" {
		return string(n.Group)
	}
	if kind := f.kindOf(n); kind != "" {
		if k := top.Kinds[kind]; k != nil && k.Group != "" {
			return string(k.Group)
		}
	}
	return string(top.Defaults.Group)
}

// first is the narrowest text that is set.
func (l levels) first(field func(*rawDefinition) text) string {
	for _, d := range l {
		if v := field(d); v != "" {
			return string(v)
		}
	}
	return ""
}

// concat joins the lists, the widest first, each word once.
func (l levels) concat(field func(*rawDefinition) texts) []string {
	var out []string
	for _, d := range slices.Backward(l[:]) {
		for _, v := range field(d) {
			if !slices.Contains(out, string(v)) {
				out = append(out, string(v))
			}
		}
	}
	return out
}

// merge joins the maps key by key; the narrower wins.
func (l levels) merge(field func(*rawDefinition) textMap) map[string]string {
	maps := make([]textMap, 0, len(l))
	for _, d := range slices.Backward(l[:]) {
		maps = append(maps, field(d))
	}
	return mergeMaps(maps...)
}

func mergeMaps(maps ...textMap) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = string(v)
		}
	}
	return out
}

// narrowest is the first value that is there; values are not merged.
func narrowest[T any](l levels, field func(*rawDefinition) *T) *T {
	for _, d := range l {
		if v := field(d); v != nil {
			return v
		}
	}
	return nil
}

// definition merges the levels field by field.
func (f *rawFile) definition(name string, n *rawDefinition) (Definition, error) {
	l, kind, group := f.nodeLevels(n)
	out := Definition{
		Kind: strings.ToLower(kind), Group: group, Type: l.typeOf(),
		Image:       l.first(func(d *rawDefinition) text { return d.Image }),
		Hostname:    l.first(func(d *rawDefinition) text { return d.Hostname }),
		Entrypoint:  l.first(func(d *rawDefinition) text { return d.Entrypoint }),
		Cmd:         l.first(func(d *rawDefinition) text { return d.Cmd }),
		Exec:        l.concat(func(d *rawDefinition) texts { return d.Exec }),
		Env:         l.merge(func(d *rawDefinition) textMap { return d.Env }),
		EnvFiles:    l.concat(func(d *rawDefinition) texts { return d.EnvFiles }),
		Labels:      l.merge(func(d *rawDefinition) textMap { return d.Labels }),
		Tmpfs:       l.merge(func(d *rawDefinition) textMap { return d.Tmpfs }),
		Devices:     l.concat(func(d *rawDefinition) texts { return d.Devices }),
		NetworkMode: l.first(func(d *rawDefinition) text { return d.NetworkMode }),
		MgmtIPv4:    string(l[0].MgmtIPv4), MgmtIPv6: string(l[0].MgmtIPv6), Aliases: l[0].Aliases.strings(),
		Sysctls:       l.merge(func(d *rawDefinition) textMap { return d.Sysctls }),
		User:          l.first(func(d *rawDefinition) text { return d.User }),
		StartupConfig: l.first(func(d *rawDefinition) text { return d.StartupConfig }),
		License:       l.first(func(d *rawDefinition) text { return d.License }),
		RestartPolicy: l.first(func(d *rawDefinition) text { return d.RestartPolicy }),
		Stages:        l.stages(),
		Ignored:       l.ignored(),
	}
	if out.Hostname == "" {
		out.Hostname = name
	}
	for _, d := range l {
		if out.StartupDelay == 0 {
			out.StartupDelay = uint(d.StartupDelay)
		}
		if len(out.Ports) == 0 {
			out.Ports = d.Ports.strings()
		}
	}
	l.records(&out)
	var err error
	if out.Binds, err = l.binds(); err != nil {
		return out, err
	}
	out.Volumes, err = l.volumes()
	return out, err
}

// records fills in the fields that are taken whole.
func (l levels) records(out *Definition) {
	if d := narrowest(l, func(d *rawDefinition) *rawDNS { return d.DNS }); d != nil {
		out.DNS = DNS{Servers: d.Servers.strings(), Options: d.Options.strings(), Search: d.Search.strings()}
	}
	if h := narrowest(l, func(d *rawDefinition) *rawHealthcheck { return d.Healthcheck }); h != nil {
		out.Healthcheck = &Healthcheck{Test: h.Test.strings(),
			Interval: int(h.Interval), Timeout: int(h.Timeout), Retries: int(h.Retries), StartPeriod: int(h.StartPeriod)}
	}
	for _, d := range slices.Backward(l[:]) {
		if d.Certificate != nil && d.Certificate.Issue != nil {
			out.IssueCertificate = bool(*d.Certificate.Issue)
		}
	}
}

// typeOf trims a type where the file gives it near the node, not where the
// defaults give it.
func (l levels) typeOf() string {
	for _, d := range l[:3] {
		if d.Type != "" {
			return strings.TrimSpace(string(d.Type))
		}
	}
	return string(l[3].Type)
}

// binds are one per target: a narrower definition's replaces a wider one's.
func (l levels) binds() ([]string, error) {
	byTarget := map[string]string{}
	for _, b := range l.concat(func(d *rawDefinition) texts { return d.Binds }) {
		parts := strings.Split(b, ":")
		switch {
		case len(parts) == 1 && parts[0] != "":
			return nil, fmt.Errorf("bind %q needs source:target; a target alone is a volume", b)
		case len(parts) < 2 || len(parts) > 3:
			return nil, fmt.Errorf("bind %q needs source:target or source:target:options", b)
		}
		byTarget[parts[1]] = strings.TrimPrefix(strings.TrimSuffix(b, ":"), ":")
	}
	return sortedValues(byTarget), nil
}

// volumes are one per target, like binds.
func (l levels) volumes() ([]string, error) {
	byTarget := map[string]string{}
	for _, v := range l.concat(func(d *rawDefinition) texts { return d.Volumes }) {
		parts := strings.Split(v, ":")
		if len(parts) > 3 || v == "" {
			return nil, fmt.Errorf("volume %q needs target, name:target or name:target:options", v)
		}
		byTarget[parts[min(1, len(parts)-1)]] = v
	}
	return sortedValues(byTarget), nil
}

func sortedValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// stages adds up the levels' plans, the widest first; what is waited for is
// listed once.
func (l levels) stages() Stages {
	var out Stages
	for _, stage := range AllStages() {
		var plan StagePlan
		for _, d := range slices.Backward(l[:]) {
			raw := d.Stages.stage(stage)
			if raw == nil {
				continue
			}
			for _, w := range raw.WaitFor {
				if wait := (WaitFor{string(w.Node), Stage(w.Stage)}); !slices.Contains(plan.WaitFor, wait) {
					plan.WaitFor = append(plan.WaitFor, wait)
				}
			}
			for _, e := range raw.Exec {
				plan.Exec = append(plan.Exec, StageExec{Command: string(e.Command), OnHost: e.Target == "host", OnExit: e.Phase == "on-exit"})
			}
		}
		if len(plan.WaitFor)+len(plan.Exec) > 0 {
			if out == nil {
				out = Stages{}
			}
			out[stage] = plan
		}
	}
	return out
}

// ignored lists the keys that a process on the host has no use for.
func (l levels) ignored() []string {
	var out []string
	for _, key := range []struct {
		name string
		set  func(*rawDefinition) bool
	}{
		{"auto-remove", func(d *rawDefinition) bool { return d.AutoRemove != nil }},
		{"cap-add", func(d *rawDefinition) bool { return len(d.CapAdd) > 0 }},
		{"cgroup-parent", func(d *rawDefinition) bool { return d.CgroupParent != "" }},
		{"cgroupns-mode", func(d *rawDefinition) bool { return d.CgroupnsMode != "" }},
		{"components", func(d *rawDefinition) bool { return d.Components != nil }},
		{"config", func(d *rawDefinition) bool { return d.Config != nil }},
		{"cpu", func(d *rawDefinition) bool { return d.CPU != nil }},
		{"cpu-set", func(d *rawDefinition) bool { return d.CPUSet != "" }},
		{"extras", func(d *rawDefinition) bool { return d.Extras != nil }},
		{"image-pull-policy", func(d *rawDefinition) bool { return d.ImagePullPolicy != "" }},
		{"memory", func(d *rawDefinition) bool { return d.Memory != "" }},
		{"pid-mode", func(d *rawDefinition) bool { return d.PIDMode != "" }},
		{"ports", func(d *rawDefinition) bool { return len(d.Ports) > 0 }},
		{"privileged", func(d *rawDefinition) bool { return d.Privileged != nil }},
		{"restart-policy", func(d *rawDefinition) bool { return d.RestartPolicy != "" }},
		{"runtime", func(d *rawDefinition) bool { return d.Runtime != "" }},
		{"security-opts", func(d *rawDefinition) bool { return len(d.SecurityOpts) > 0 }},
		{"shm-size", func(d *rawDefinition) bool { return d.ShmSize != "" }},
	} {
		if slices.ContainsFunc(l[:], key.set) {
			out = append(out, key.name)
		}
	}
	return out
}
