package clab

import (
	"maps"
	"slices"
)

// Definition is what a file of containerlab 0.79 may say of a node, a kind, a group or the
// defaults. Fields of type any are containerlab's own affair: they are read
// so that a valid file is not called invalid, and interpreted nowhere here.
type Definition struct {
	Kind          string            `yaml:"kind"`
	Group         string            `yaml:"group"`
	Type          string            `yaml:"type"`
	Image         string            `yaml:"image"`
	Entrypoint    string            `yaml:"entrypoint"`
	Cmd           string            `yaml:"cmd"`
	Exec          []string          `yaml:"exec"`
	Env           map[string]string `yaml:"env"`
	EnvFiles      []string          `yaml:"env-files"`
	Labels        map[string]string `yaml:"labels"`
	Binds         []string          `yaml:"binds"`
	NetworkMode   string            `yaml:"network-mode"`
	MgmtIPv4      string            `yaml:"mgmt-ipv4"`
	MgmtIPv6      string            `yaml:"mgmt-ipv6"`
	Sysctls       map[string]string `yaml:"sysctls"`
	User          string            `yaml:"user"`
	StartupConfig string            `yaml:"startup-config"`
	License       string            `yaml:"license"`
	Runtime       string            `yaml:"runtime"`
	Stages        any               `yaml:"stages"`
	Extras        any               `yaml:"extras"`
	Config        any               `yaml:"config"`
	DNS           any               `yaml:"dns"`
	Components    any               `yaml:"components"`
	StartupDelay  int               `yaml:"startup-delay"`
	Devices       []string          `yaml:"devices"`
	Volumes       any               `yaml:"volumes"`
	Hints         `yaml:",inline"`
}

// Hints are keys whose neglect changes nothing that a topology's traffic
// could notice on a machine's own network stack.
type Hints struct {
	ImagePullPolicy       string   `yaml:"image-pull-policy"`
	Position              string   `yaml:"position"`
	Ports                 []string `yaml:"ports"`
	Aliases               []string `yaml:"aliases"`
	RestartPolicy         string   `yaml:"restart-policy"`
	AutoRemove            *bool    `yaml:"auto-remove"`
	EnforceStartupConfig  *bool    `yaml:"enforce-startup-config"`
	SuppressStartupConfig *bool    `yaml:"suppress-startup-config"`
	Privileged            *bool    `yaml:"privileged"`
	CapAdd                []string `yaml:"cap-add"`
	ShmSize               string   `yaml:"shm-size"`
	CPU                   float64  `yaml:"cpu"`
	CPUSet                string   `yaml:"cpu-set"`
	Memory                string   `yaml:"memory"`
	Healthcheck           any      `yaml:"healthcheck"`
	Certificate           any      `yaml:"certificate"`
	Credentials           any      `yaml:"credentials"`
	Tmpfs                 any      `yaml:"tmpfs"`
	Hostname              string   `yaml:"hostname"`
	CgroupnsMode          string   `yaml:"cgroupns-mode"`
	CgroupParent          string   `yaml:"cgroup-parent"`
	PIDMode               string   `yaml:"pid-mode"`
	SecurityOpts          []string `yaml:"security-opts"`
	LinkApplyMode         any      `yaml:"link-apply-mode"`
}

// inherit fills what d leaves open from a wider definition: maps merge key
// by key, exec and lists of the wider come first, single values are taken
// where d has none.
func (d Definition) inherit(from Definition) Definition {
	d.Env = mergeMaps(from.Env, d.Env)
	d.Labels = mergeMaps(from.Labels, d.Labels)
	d.Sysctls = mergeMaps(from.Sysctls, d.Sysctls)
	d.Exec = slices.Concat(from.Exec, d.Exec)
	d.Binds = slices.Concat(from.Binds, d.Binds)
	d.EnvFiles = slices.Concat(from.EnvFiles, d.EnvFiles)
	d.Devices = slices.Concat(from.Devices, d.Devices)
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&d.Kind, from.Kind}, {&d.Group, from.Group}, {&d.Type, from.Type}, {&d.Image, from.Image},
		{&d.Entrypoint, from.Entrypoint}, {&d.Cmd, from.Cmd}, {&d.NetworkMode, from.NetworkMode},
		{&d.User, from.User}, {&d.StartupConfig, from.StartupConfig}, {&d.License, from.License}, {&d.Runtime, from.Runtime},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	for _, f := range []struct{ to, from *any }{
		{&d.Stages, &from.Stages}, {&d.Extras, &from.Extras}, {&d.Config, &from.Config},
		{&d.DNS, &from.DNS}, {&d.Components, &from.Components}, {&d.Volumes, &from.Volumes},
	} {
		if *f.to == nil {
			*f.to = *f.from
		}
	}
	if d.StartupDelay == 0 {
		d.StartupDelay = from.StartupDelay
	}
	return d
}

func mergeMaps(wide, narrow map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, wide)
	maps.Copy(out, narrow)
	return out
}

// Mgmt is the management network.
type Mgmt struct {
	Network        string `yaml:"network"`
	Bridge         string `yaml:"bridge"`
	IPv4Subnet     string `yaml:"ipv4-subnet"`
	IPv4Gateway    string `yaml:"ipv4-gw"`
	IPv4Range      string `yaml:"ipv4-range"`
	IPv6Subnet     string `yaml:"ipv6-subnet"`
	IPv6Gateway    string `yaml:"ipv6-gw"`
	IPv6Range      string `yaml:"ipv6-range"`
	MTU            int    `yaml:"mtu"`
	ExternalAccess *bool  `yaml:"external-access"`
	DriverOpts     any    `yaml:"driver-opts"`
	SkipWhenUnused *bool  `yaml:"skip-when-unused"`
}

// file is the outermost mapping of a topology file.
type file struct {
	Name     string  `yaml:"name"`
	Prefix   *string `yaml:"prefix"`
	Mgmt     Mgmt    `yaml:"mgmt"`
	Settings any     `yaml:"settings"`
	Debug    any     `yaml:"debug"`
	Topology struct {
		Defaults Definition            `yaml:"defaults"`
		Kinds    map[string]Definition `yaml:"kinds"`
		Groups   map[string]Definition `yaml:"groups"`
		Nodes    nodeList              `yaml:"nodes"`
		Links    []rawLink             `yaml:"links"`
	} `yaml:"topology"`
}
