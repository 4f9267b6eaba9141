package clab

// Definition is what holds for a node once defaults, kind, group and the
// node's own definition are merged, as containerlab 0.79 merges them.
type Definition struct {
	Kind  string // lower case
	Group string
	Type  string
	Image string
	// Hostname is the node's name unless the file says another.
	Hostname   string
	Entrypoint string
	Cmd        string
	// Exec are the lines to run after the node's links are there, wider
	// definitions' first, each once.
	Exec     []string
	Env      map[string]string // without what EnvFiles add
	EnvFiles []string
	Labels   map[string]string
	// Binds are one per target, sorted.
	Binds         []string
	Volumes       []string
	Tmpfs         map[string]string
	Devices       []string
	NetworkMode   string
	MgmtIPv4      string // only a node's own
	MgmtIPv6      string
	Aliases       []string
	Sysctls       map[string]string
	User          string
	StartupConfig string
	License       string
	StartupDelay  uint // seconds
	RestartPolicy string
	Ports         []string
	Stages        Stages
	DNS           DNS
	Healthcheck   *Healthcheck
	// IssueCertificate is true when containerlab would make the node a
	// certificate.
	IssueCertificate bool
	// Ignored names the keys that say something of a container which a
	// process on the host has not: limits, capabilities and the like.
	Ignored []string
}

// DNS is a node's resolver configuration.
type DNS struct {
	Servers []string
	Options []string
	Search  []string
}

// empty reports whether the file says nothing of it.
func (d DNS) empty() bool { return len(d.Servers)+len(d.Options)+len(d.Search) == 0 }

// Set reports whether the file says anything of it.
func (d DNS) Set() bool { return !d.empty() }

// Healthcheck is the command by which a node is known to be healthy. Times
// are in seconds; zero is Docker's default.
type Healthcheck struct {
	Test                                    []string
	Interval, Timeout, Retries, StartPeriod int
}

// Stage is one step in the deployment of a node.
type Stage string

// The stages in their order.
const (
	StageCreate      Stage = "create"
	StageCreateLinks Stage = "create-links"
	StageConfigure   Stage = "configure"
	StageHealthy     Stage = "healthy"
	StageExit        Stage = "exit"
)

// AllStages lists the stages in their order.
func AllStages() []Stage {
	return []Stage{StageCreate, StageCreateLinks, StageConfigure, StageHealthy, StageExit}
}

// Stages say per stage what a node waits for and runs.
type Stages map[Stage]StagePlan

// StagePlan is what a node waits for before a stage, and runs around it.
type StagePlan struct {
	WaitFor []WaitFor
	Exec    []StageExec
}

// WaitFor names a stage that another node must have completed.
type WaitFor struct {
	Node  string
	Stage Stage
}

// StageExec is a command of a stage.
type StageExec struct {
	Command string
	// OnHost is true for a command that runs on the host, not in the node.
	OnHost bool
	// OnExit is true for a command that runs when the stage is completed,
	// not when it begins.
	OnExit bool
}

// Mgmt is the management network.
type Mgmt struct {
	Network     string
	Bridge      string
	IPv4Subnet  string
	IPv4Gateway string
	IPv4Range   string
	IPv6Subnet  string
	IPv6Gateway string
	IPv6Range   string
	MTU         int
	// ExternalAccess is nil when the file does not say.
	ExternalAccess *bool
	SkipWhenUnused bool
	DriverOpts     map[string]string
}

// Containerlab's management network, when the file says nothing else.
const (
	DefaultMgmtNetwork = "clab"
	DefaultMgmtIPv4    = "172.20.20.0/24"
	DefaultMgmtIPv6    = "3fff:172:20:20::/64"
	defaultMgmtMTU     = 1500 // Docker's own default network's
)

// WithDefaults fills in what the file leaves out.
func (m Mgmt) WithDefaults() Mgmt {
	if m.Network == "" {
		m.Network = DefaultMgmtNetwork
	}
	if m.IPv4Subnet == "" && m.IPv6Subnet == "" {
		m.IPv4Subnet, m.IPv6Subnet = DefaultMgmtIPv4, DefaultMgmtIPv6
	}
	if m.MTU == 0 {
		m.MTU = defaultMgmtMTU
	}
	return m
}
