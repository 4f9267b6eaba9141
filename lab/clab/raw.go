package clab

import (
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"gopkg.in/yaml.v3"
)

// text is a string that may also be given as nothing, as in "image:", which
// containerlab's YAML library takes for an empty one.
type text string

// UnmarshalStrict takes any scalar by its text.
func (t *text) UnmarshalStrict(n strictyaml.Node) error {
	if null(n) {
		*t = ""
		return nil
	}
	return n.Decode((*string)(t))
}

// null reports whether a node is an empty or null scalar.
func null(n strictyaml.Node) bool {
	if n.Kind() != yaml.ScalarNode {
		return false
	}
	var any any
	return n.Decode(&any) == nil && any == nil
}

// flag is a boolean in any spelling of YAML 1.1, which is containerlab's.
type flag bool

// UnmarshalStrict takes true, yes, on, y and their opposites.
func (f *flag) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() == yaml.ScalarNode {
		switch strings.ToLower(n.Value()) {
		case "y", "yes", "on", "true":
			*f = true
			return nil
		case "n", "no", "off", "false", "", "~", "null":
			*f = false
			return nil
		}
	}
	return n.Errorf("needs true or false, got %q", n.Value())
}

// whole is a number that may also be given as nothing, which is zero.
type whole int

// UnmarshalStrict takes whole numbers.
func (w *whole) UnmarshalStrict(n strictyaml.Node) error {
	if null(n) {
		*w = 0
		return nil
	}
	return n.Decode((*int)(w))
}

// natural is a whole number that is not negative.
type natural uint

// UnmarshalStrict takes whole numbers from zero.
func (w *natural) UnmarshalStrict(n strictyaml.Node) error {
	if null(n) {
		*w = 0
		return nil
	}
	return n.Decode((*uint)(w))
}

type texts []text

func (t texts) strings() []string {
	if t == nil {
		return nil
	}
	out := make([]string, len(t))
	for i, s := range t {
		out[i] = string(s)
	}
	return out
}

type textMap map[string]text

// rawDefinition has the keys of a node, kind, group or the defaults in
// containerlab 0.79. Fields of type any belong to kinds that nothing here
// runs: they are read so that a valid file is not called invalid.
type rawDefinition struct {
	Kind          text            `yaml:"kind"`
	Group         text            `yaml:"group"`
	Type          text            `yaml:"type"`
	Image         text            `yaml:"image"`
	Hostname      text            `yaml:"hostname"`
	Entrypoint    text            `yaml:"entrypoint"`
	Cmd           text            `yaml:"cmd"`
	Exec          texts           `yaml:"exec"`
	Env           textMap         `yaml:"env"`
	EnvFiles      texts           `yaml:"env-files"`
	Labels        textMap         `yaml:"labels"`
	Binds         texts           `yaml:"binds"`
	Volumes       texts           `yaml:"volumes"`
	Tmpfs         textMap         `yaml:"tmpfs"`
	Devices       texts           `yaml:"devices"`
	NetworkMode   text            `yaml:"network-mode"`
	MgmtIPv4      text            `yaml:"mgmt-ipv4"`
	MgmtIPv6      text            `yaml:"mgmt-ipv6"`
	Aliases       texts           `yaml:"aliases"`
	Sysctls       textMap         `yaml:"sysctls"`
	User          text            `yaml:"user"`
	StartupConfig text            `yaml:"startup-config"`
	License       text            `yaml:"license"`
	StartupDelay  natural         `yaml:"startup-delay"`
	RestartPolicy text            `yaml:"restart-policy"`
	Ports         texts           `yaml:"ports"`
	Stages        *rawStages      `yaml:"stages"`
	DNS           *rawDNS         `yaml:"dns"`
	Healthcheck   *rawHealthcheck `yaml:"healthcheck"`
	Certificate   *rawCertificate `yaml:"certificate"`

	// Keys of containers and of other kinds.
	ImagePullPolicy       text           `yaml:"image-pull-policy"`
	Position              text           `yaml:"position"`
	AutoRemove            *flag          `yaml:"auto-remove"`
	EnforceStartupConfig  *flag          `yaml:"enforce-startup-config"`
	SuppressStartupConfig *flag          `yaml:"suppress-startup-config"`
	Privileged            *flag          `yaml:"privileged"`
	CapAdd                texts          `yaml:"cap-add"`
	ShmSize               text           `yaml:"shm-size"`
	CPU                   *float64       `yaml:"cpu"`
	CPUSet                text           `yaml:"cpu-set"`
	Memory                text           `yaml:"memory"`
	CgroupnsMode          text           `yaml:"cgroupns-mode"`
	CgroupParent          text           `yaml:"cgroup-parent"`
	PIDMode               text           `yaml:"pid-mode"`
	SecurityOpts          texts          `yaml:"security-opts"`
	Runtime               text           `yaml:"runtime"`
	LinkApplyMode         text           `yaml:"link-apply-mode"`
	Credentials           rawCredentials `yaml:"credentials"`
	Username              text           `yaml:"username"` // deprecated, still read
	Password              text           `yaml:"password"`
	Components            any            `yaml:"components"`
	Extras                *rawExtras     `yaml:"extras"`
	Config                *rawConfig     `yaml:"config"`
}

type rawCredentials struct {
	Username     text `yaml:"username"`
	Password     text `yaml:"password"`
	IdentityFile text `yaml:"identity-file"`
}

type rawConfig struct {
	Vars map[string]any `yaml:"vars"`
}

type rawExtras struct {
	SRLAgents       texts `yaml:"srl-agents"`
	MysocketProxy   text  `yaml:"mysocket-proxy"`
	CeosCopyToFlash texts `yaml:"ceos-copy-to-flash"`
	K8sKind         *struct {
		Deploy *struct {
			Kubeconfig text `yaml:"kubeconfig"`
			Wait       text `yaml:"wait"`
		} `yaml:"deploy"`
	} `yaml:"k8s_kind"`
}

type rawDNS struct {
	Servers texts `yaml:"servers"`
	Options texts `yaml:"options"`
	Search  texts `yaml:"search"`
}

type rawHealthcheck struct {
	Test        texts `yaml:"test"`
	Interval    whole `yaml:"interval"`
	Timeout     whole `yaml:"timeout"`
	Retries     whole `yaml:"retries"`
	StartPeriod whole `yaml:"start-period"`
}

type rawCertificate struct {
	Issue            *flag `yaml:"issue"`
	KeySize          whole `yaml:"key-size"`
	ValidityDuration text  `yaml:"validity-duration"`
	SANs             texts `yaml:"sans"`
}

type rawStages struct {
	Create      *rawStage `yaml:"create"`
	CreateLinks *rawStage `yaml:"create-links"`
	Configure   *rawStage `yaml:"configure"`
	Healthy     *rawStage `yaml:"healthy"`
	Exit        *rawStage `yaml:"exit"`
}

// stage finds the plan of a stage, nil where there is none.
func (s *rawStages) stage(of Stage) *rawStage {
	switch {
	case s == nil:
		return nil
	case of == StageCreate:
		return s.Create
	case of == StageCreateLinks:
		return s.CreateLinks
	case of == StageConfigure:
		return s.Configure
	case of == StageHealthy:
		return s.Healthy
	}
	return s.Exit
}

type rawStage struct {
	WaitFor []rawWaitFor `yaml:"wait-for"`
	Exec    []rawExec    `yaml:"exec"`
}

type rawWaitFor struct {
	Node  text `yaml:"node"`
	Stage text `yaml:"stage"`
}

type rawExec struct {
	Command text       `yaml:"command"`
	Target  execTarget `yaml:"target"`
	Phase   execPhase  `yaml:"phase"`
}

// execTarget is where a stage's command runs.
type execTarget string

// UnmarshalStrict refuses a place that containerlab silently passes over.
func (e *execTarget) UnmarshalStrict(n strictyaml.Node) error {
	if v := n.Value(); !null(n) && v != "" && v != "container" && v != "host" {
		return n.Errorf("needs container or host, got %q", v)
	}
	*e = execTarget(n.Value())
	return nil
}

// execPhase is when a stage's command runs.
type execPhase string

// UnmarshalStrict refuses a time that for containerlab never comes.
func (e *execPhase) UnmarshalStrict(n strictyaml.Node) error {
	if v := n.Value(); !null(n) && v != "" && v != "on-enter" && v != "on-exit" {
		return n.Errorf("needs on-enter or on-exit, got %q", v)
	}
	*e = execPhase(n.Value())
	return nil
}

// rawMgmt is the management network as written.
type rawMgmt struct {
	Network        text    `yaml:"network"`
	Bridge         text    `yaml:"bridge"`
	IPv4Subnet     text    `yaml:"ipv4-subnet"`
	IPv4Gateway    text    `yaml:"ipv4-gw"`
	IPv4Range      text    `yaml:"ipv4-range"`
	IPv6Subnet     text    `yaml:"ipv6-subnet"`
	IPv6Gateway    text    `yaml:"ipv6-gw"`
	IPv6Range      text    `yaml:"ipv6-range"`
	MTU            whole   `yaml:"mtu"`
	ExternalAccess *flag   `yaml:"external-access"`
	SkipWhenUnused flag    `yaml:"skip-when-unused"`
	DriverOpts     textMap `yaml:"driver-opts"`
	OldIPv4Subnet  text    `yaml:"ipv4_subnet"` // deprecated, still read
	OldIPv6Subnet  text    `yaml:"ipv6_subnet"`
}

func (m rawMgmt) mgmt() Mgmt {
	out := Mgmt{
		Network: string(m.Network), Bridge: string(m.Bridge),
		IPv4Subnet: string(m.IPv4Subnet), IPv4Gateway: string(m.IPv4Gateway), IPv4Range: string(m.IPv4Range),
		IPv6Subnet: string(m.IPv6Subnet), IPv6Gateway: string(m.IPv6Gateway), IPv6Range: string(m.IPv6Range),
		MTU: int(m.MTU), ExternalAccess: (*bool)(m.ExternalAccess), SkipWhenUnused: bool(m.SkipWhenUnused),
	}
	if out.IPv4Subnet == "" {
		out.IPv4Subnet = string(m.OldIPv4Subnet)
	}
	if out.IPv6Subnet == "" {
		out.IPv6Subnet = string(m.OldIPv6Subnet)
	}
	if m.DriverOpts != nil {
		out.DriverOpts = mergeMaps(m.DriverOpts)
	}
	return out
}

// rawFile is the outermost mapping of a topology file.
type rawFile struct {
	Name     text    `yaml:"name"`
	Prefix   *text   `yaml:"prefix"`
	Mgmt     rawMgmt `yaml:"mgmt"`
	Settings *struct {
		CertificateAuthority *struct {
			Cert             text  `yaml:"cert"`
			Key              text  `yaml:"key"`
			KeySize          whole `yaml:"key-size"`
			ValidityDuration text  `yaml:"validity-duration"`
		} `yaml:"certificate-authority"`
	} `yaml:"settings"`
	Debug    flag `yaml:"debug"`
	Topology struct {
		Defaults rawDefinition             `yaml:"defaults"`
		Kinds    map[string]*rawDefinition `yaml:"kinds"`
		Groups   map[string]*rawDefinition `yaml:"groups"`
		Nodes    nodeList                  `yaml:"nodes"`
		Links    []rawLink                 `yaml:"links"`
	} `yaml:"topology"`
}
