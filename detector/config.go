package detector

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config tunes an Engine. The zero value is not valid; start from
// DefaultConfig.
type Config struct {
	// Emit receives every change of a finding's state, in order, on the
	// goroutine that calls Observe or Advance. It must not call back into
	// the engine. May be nil: then only Active tells.
	Emit func(Finding)
	// EmitPending also raises findings before their evidence suffices.
	EmitPending bool
	// Ignore says that no finding may name this host as its attacker (a
	// vulnerability scanner of one's own). Asked once per finding. May be nil.
	Ignore func(host netip.Addr, kind Kind) bool
	// Edge says whether a port (kernel interface index) leads to hosts
	// rather than to another switch: only there does the ingress port say
	// where traffic comes from. Nil means that every port does.
	Edge func(inPort uint32) bool
	// Inside says whether an address belongs to the network that is guarded.
	// Nil means private and link-local addresses (RFC 1918, 4193, 6598,
	// 3927, 4291).
	Inside func(netip.Addr) bool
	// Seed keys the hashes of sketches. 0 takes a random one, as befits a
	// live network; the same seed gives the same findings in every replay.
	Seed uint64

	Scan    ScanConfig
	ARP     ARPConfig
	SYN     SYNConfig
	UDP     FloodConfig
	ICMP    FloodConfig
	Login   LoginConfig
	Lateral LateralConfig
	Policy  PolicyConfig
	Rhythm  RhythmConfig
	Exfil   ExfilConfig
	Tunnel  TunnelConfig
	Model   ModelConfig
	Anomaly AnomalyConfig
	ACK     FloodConfig
	Link    LinkConfig
	// Amplification counts answers of services that amplify. Its Credit is
	// not used: each protocol has its own.
	Amplification FloodConfig
	// Press counts connections that a service accepts; nothing is credited.
	Press FloodConfig
	Limit LimitConfig

	// WarmUp is how long after the first record every TCP client counts as
	// known, because nothing can have completed a conversation yet.
	WarmUp time.Duration
	// KeepFiring is how long a finding outlives its last evidence. Attacks
	// slower than that are kept for several of their own intervals, up to
	// MaxKeepFiring.
	KeepFiring, MaxKeepFiring time.Duration
}

// ScanConfig tunes the threshold random walk of Jung, Paxson, Berger and
// Balakrishnan, "Fast portscan detection using sequential hypothesis testing",
// IEEE S&P 2004.
type ScanConfig struct {
	// Theta0 and Theta1 are the probabilities that a first contact of a
	// benign host and of a scanner succeeds (the paper: 0.8 and 0.2).
	Theta0, Theta1 float64
	// Alpha bounds the false alarm rate, Beta is the detection probability
	// aimed at (the paper: 0.01 and 0.99). With the thetas above they ask
	// for four failures more than successes.
	Alpha, Beta float64
	// SilentUDP weighs the silence of a UDP or ICMP service against that of
	// TCP: many such services never answer.
	SilentUDP float64
	// ReplyTimeout is how long an attempt may stay unanswered; FlowTimeout
	// the same for aggregated flow records, whose other direction is
	// exported at the exporter's leisure.
	ReplyTimeout, FlowTimeout time.Duration
	// MaxUnanswered decides early when so many ports of one target are
	// unanswered for longer than AnswerMargin, or four times the source's
	// smoothed answer time if that is longer.
	MaxUnanswered int
	AnswerMargin  time.Duration
	// MaxCredit bounds, in net failures, the benefit of past successes. It
	// fades with CreditHalfLife, so that a host that was benign and was
	// taken over is not protected by its past for longer than that.
	MaxCredit      float64
	CreditHalfLife time.Duration
}

// ARPConfig tunes the detection of sweeps through unused addresses, which
// never get beyond address resolution.
type ARPConfig struct {
	// Timeout is how long a request may stay unanswered.
	Timeout time.Duration
	// Failures is the number of unanswered requests, net of answered ones,
	// that decides.
	Failures float64
	// Leak forgives failures, per second: a gateway or a monitor retries
	// dead addresses for ever, but not fast.
	Leak float64
	// MaxHabit bounds how many unanswered requests in ten seconds may be
	// learned as a host's habit and are then tolerated on top.
	MaxHabit float64
}

// FloodConfig tunes a CUSUM (Page, "Continuous inspection schemes",
// Biometrika 41, 1954) of packets towards one victim through one port:
// S <- max(0, S + packets - answers - K*dt), alarm when S > Threshold.
type FloodConfig struct {
	// Floor is the lowest drift K in packets per second, Cap the highest
	// that learning may reach, whatever the past was: without it a slow
	// ramp teaches the detector anything.
	Floor, Cap float64
	// Threshold is the alarm level in packets.
	Threshold float64
	// Credit is how many packets one answer of the victim excuses, and
	// MaxCredit the most packets per second that may be excused.
	Credit, MaxCredit float64
	// Margin multiplies the learned baseline to give K.
	Margin float64
	// Tau is the time constant of the baseline.
	Tau time.Duration
}

// SYNConfig holds the two tests for SYN floods.
type SYNConfig struct {
	// Unknown counts attempts of sources that never completed a
	// conversation, as invented ones never do. All counts every attempt, so
	// that it must tolerate busy servers; completed connections (TCP FIN)
	// are its answers.
	Unknown, All FloodConfig
}

// LimitConfig bounds every table, in entries. Capacities are rounded up to
// powers of two and allocated at once, but memory that was never written to
// costs address space only. Sizes are those of BenchmarkMemory.
type LimitConfig struct {
	Hosts    int // source hosts, 170 bytes each
	Contacts int // first contacts, 82 bytes each
	Pending  int // of each kind of contact waiting for an answer, 16 bytes each
	Suspects int // hosts with failures, 1.6 kB each with what scans, worms and pings need
	MACs     int // stations that ask for addresses, 1.9 kB each
	Edges    int // client, server and service, 452 bytes each
	Windows  int // hosts active within a minute, 390 bytes each
	Cells    int // victim, port, protocol and telemetry, 554 bytes each; 378 more for those who
	// are answered by services that amplify, 290 for each service of TCP.
	Sessions int // TCP connections, 82 bytes each
	Findings int // findings at once
}

// DefaultConfig returns the settings that the package documentation reports
// figures for.
func DefaultConfig() Config {
	const unlimited = 1e9
	return Config{
		Scan: ScanConfig{
			Theta0: 0.8, Theta1: 0.2, Alpha: 0.01, Beta: 0.99,
			SilentUDP:    0.5,
			ReplyTimeout: 500 * time.Millisecond, FlowTimeout: time.Minute,
			MaxUnanswered: 48, AnswerMargin: 5 * time.Millisecond,
			MaxCredit: 256, CreditHalfLife: time.Minute,
		},
		ARP: ARPConfig{Timeout: 200 * time.Millisecond, Failures: 8, Leak: 2, MaxHabit: 48},
		SYN: SYNConfig{
			Unknown: FloodConfig{Floor: 500, Cap: 2_000, Threshold: 250,
				Credit: 1, MaxCredit: 20_000, Margin: 1.5, Tau: time.Hour},
			All: FloodConfig{Floor: 4_500, Cap: 45_000, Threshold: 1_000,
				Credit: 1, MaxCredit: 20_000, Margin: 1.5, Tau: time.Hour},
		},
		UDP: FloodConfig{Floor: 5_000, Cap: 50_000, Threshold: 2_000,
			Credit: 10, MaxCredit: unlimited, Margin: 1.5, Tau: time.Hour},
		ICMP: FloodConfig{Floor: 1_000, Cap: 5_000, Threshold: 600,
			Credit: 1, MaxCredit: 2_000, Margin: 1.5, Tau: time.Hour},
		Login: defaultLogin(), Lateral: defaultLateral(), Policy: defaultPolicy(),
		Rhythm: defaultRhythm(),
		Exfil:  defaultExfil(), Tunnel: defaultTunnel(),
		Anomaly: defaultAnomaly(),
		ACK: FloodConfig{Floor: 2_000, Cap: 20_000, Threshold: 800,
			Credit: 1.5, MaxCredit: 200_000, Margin: 1.5, Tau: time.Hour},
		Link:          defaultLink(),
		Amplification: FloodConfig{Floor: 200, Cap: 2_000, Threshold: 400, Margin: 1.5, Tau: time.Hour},
		Press:         FloodConfig{Floor: 20, Cap: 2_000, Threshold: 600, Margin: 4, Tau: time.Hour},
		Limit: LimitConfig{Hosts: 1 << 20, Contacts: 1 << 19, Pending: 1 << 17,
			Suspects: 1 << 14, MACs: 1 << 12, Cells: 1 << 15, Sessions: 1 << 17, Edges: 1 << 19, Windows: 1 << 19, Findings: 1 << 10},
		WarmUp:     5 * time.Second,
		KeepFiring: 10 * time.Second, MaxKeepFiring: time.Hour,
	}
}

// Validate reports every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("detector: "+format, args...))
		}
	}
	s := &c.Scan
	check(s.Theta1 > 0 && s.Theta0 < 1 && s.Theta1 < s.Theta0,
		"scan: want 0 < theta1 < theta0 < 1, have %v and %v", s.Theta1, s.Theta0)
	check(s.Alpha > 0 && s.Beta < 1 && s.Alpha < s.Beta,
		"scan: want 0 < alpha < beta < 1, have %v and %v", s.Alpha, s.Beta)
	check(s.SilentUDP >= 0 && s.SilentUDP <= 1, "scan: silent UDP weight %v is not in [0,1]", s.SilentUDP)
	check(s.ReplyTimeout > 0 && s.FlowTimeout > 0, "scan: timeouts must be positive")
	check(s.AnswerMargin > 0 && s.AnswerMargin < s.ReplyTimeout,
		"scan: answer margin %v is not within the reply timeout %v", s.AnswerMargin, s.ReplyTimeout)
	check(s.MaxUnanswered > 0, "scan: unanswered contacts must be positive")
	check(s.MaxCredit >= 0 && s.CreditHalfLife > 0, "scan: credit must not be negative, its half-life positive")
	check(c.ARP.Timeout > 0 && c.ARP.Failures >= 1 && c.ARP.Failures <= arpOutstanding &&
		c.ARP.Leak >= 0 && c.ARP.MaxHabit >= 0,
		"arp: want a positive timeout, 1 to %d failures, no negative leak or habit", arpOutstanding)
	for _, f := range []struct {
		name string
		c    *FloodConfig
	}{{"syn unknown", &c.SYN.Unknown}, {"syn all", &c.SYN.All}, {"udp", &c.UDP}, {"icmp", &c.ICMP}, {"ack", &c.ACK}, {"amplification", &c.Amplification}, {"press", &c.Press}} {
		check(f.c.Floor > 0 && f.c.Cap >= f.c.Floor && f.c.Threshold > 0 && f.c.Tau > 0,
			"%s: want 0 < floor <= cap, a positive threshold and time constant", f.name)
		check(f.c.Credit >= 0 && f.c.MaxCredit >= 0 && f.c.Margin >= 1,
			"%s: want no negative credit and a margin of at least 1", f.name)
	}
	check(c.Tunnel.valid(), "tunnel: want positive bounds")
	check(c.Exfil.valid(), "exfil: want positive bounds that grow from odd to usual to common")
	check(c.Login.valid(), "login: want positive bounds, and no fewer sessions where sizes are unknown")
	check(c.Link.valid(), "link: want positive limits, stations and rate")
	check(c.Rhythm.valid(), "rhythm: want positive bounds and times, at least 8 cycles")
	check(c.Policy.valid(), "policy: want positive attempts and hosts")
	check(c.Lateral.valid(), "lateral: want a positive rate, ratio, threshold and hosts")
	check(c.Anomaly.valid(), "anomaly: want hosts, 2/%d <= alert rate < 1, a positive time to relearn and odds", calibration)
	l := &c.Limit
	check(min(l.Hosts, l.Contacts, l.Pending, l.Suspects, l.MACs, l.Cells, l.Sessions, l.Edges, l.Windows, l.Findings) > 0,
		"limits must be positive")
	check(c.WarmUp >= 0 && c.KeepFiring > 0 && c.MaxKeepFiring >= c.KeepFiring,
		"want 0 <= warm-up, 0 < keep firing <= its maximum")
	errs = append(errs, fits(c.Model.Active, c.Model.Candidate))
	return errors.Join(errs...)
}
