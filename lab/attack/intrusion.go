package attack

import (
	"context"
	"errors"
	"slices"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/intrusion"
)

// intrusions are attacks on applications, played by agents of ours. The
// ports are none that benign traffic uses, so that filters tell them apart.
func intrusions() []Attack {
	return slices.Concat(guessing(), spreading(), []Attack{
		{
			Name: "beacon", Finding: "beacon", Action: "segment", Technique: "T1071.001", traffic: "tcp dst port 8000",
			about: "calls home by HTTP every second, give or take a fifth",
			play:  staged(intrusion.Beacon, 1),
		},
		{
			Name: "beacon-tls", Finding: "beacon", Action: "segment", Technique: "T1573.002", traffic: "tcp dst port 8443",
			about: "calls home by HTTPS every second, give or take a fifth",
			play:  staged(intrusion.BeaconTLS, 1),
		},
		{
			Name: "exfiltration-fast", Finding: "exfiltration", Action: "segment", Technique: "T1048.002", traffic: "tcp dst port 443",
			about: "uploads files over TLS at 11 Mbit/s",
			play:  staged(intrusion.ExfiltrateFast, 1000),
		},
		{
			Name: "exfiltration-slow", Finding: "exfiltration", Action: "segment", Technique: "T1030", traffic: "tcp dst port 443",
			about: "uploads 2 KiB over TLS every second",
			play:  staged(intrusion.ExfiltrateSlow, 1),
		},
		{
			Name: "dns-tunnel", Finding: "dns-tunnel", Action: "segment", Technique: "T1071.004", traffic: "udp dst port 53", swept: true,
			about: "50 DNS queries/s with long names of random octets to the lab's resolver",
			play:  staged(intrusion.DNSTunnel, 50),
		},
		{
			Name: "lateral-movement", Finding: "lateral-movement", Action: "quarantine", Technique: "T1021", swept: true,
			filter: anyone("tcp and (dst port 445 or dst port 3389 or dst port 5985 or dst port 22)"),
			about:  "tries SMB, RDP, WinRM and SSH on all hosts, 5 sessions/s, and goes on from one that lets it in",
			play:   staged(intrusion.LateralMovement, 5),
		},
	})
}

// guessing are attacks on passwords.
func guessing() []Attack {
	return []Attack{
		{
			Name: "ssh-brute-force", Finding: "brute-force", Action: "segment", Technique: "T1110.001", traffic: "tcp dst port 22",
			about: "10 SSH logins/s on one account, the right password last",
			play:  staged(intrusion.SSHBruteForce, 10),
		},
		{
			Name: "http-brute-force", Finding: "brute-force", Action: "segment", Technique: "T1110.001", traffic: "tcp dst port 8080",
			about: "20 login forms/s on one account, the right password last",
			play:  staged(intrusion.HTTPBruteForce, 20),
		},
		{
			Name: "password-spray", Finding: "brute-force", Action: "segment", Technique: "T1110.003", traffic: "tcp dst port 22", swept: true,
			about: "5 SSH logins/s, a few passwords on every account of every host",
			play:  staged(intrusion.PasswordSpray, 5),
		},
	}
}

// spreading are attacks in which those attacked become attackers: their
// packets are known by the port, whoever sends them.
func spreading() []Attack {
	return []Attack{
		{
			Name: "worm", Finding: "worm", Early: "arp-sweep", Action: "quarantine", Technique: "T1210", swept: true,
			filter: anyone("tcp dst port 445"),
			about:  "every taken host looks for others at 50 addresses/s, every other one near its own, and takes those that listen for the mark",
			play:   staged(intrusion.Worm, 50),
		},
		{
			Name: "mirai", Finding: "worm", Early: "arp-sweep", Action: "quarantine", Technique: "T1110.001", swept: true,
			filter: anyone("tcp dst port 23 or tcp dst port 2323 or udp dst port 9999"),
			about:  "telnet with default passwords at 50 addresses/s from every bot, then 2,000 UDP packets/s on the victim",
			play:   staged(intrusion.Mirai, 50),
		},
	}
}

// anyone is a filter for packets of any source.
func anyone(filter string) func(Roles) string { return func(Roles) string { return filter } }

// staged makes a play of an intrusion, at a rate of its own where the
// settings name none.
func staged(play func(context.Context, *intrusion.Stage) error, rate float64) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		if s.Lab == nil {
			return errors.New("takes servers on other nodes: it runs in a whole lab, not at one node alone")
		}
		stage := &intrusion.Stage{
			Attackers: s.From, Victim: s.Victim, Peers: s.peers(), Hosts: s.vulnerable(),
			Open:   func(node string) (*agent.Station, error) { return agent.In(s.Lab, node) },
			Record: s.Record, Rand: s.Rand, Rate: s.Rate, Limit: s.Packets,
			// An attempt counts as a packet: the kernel makes several of it,
			// but what the settings bound is what the attacker does.
			Charge: func() error {
				_, err := s.Budget.Take(1)
				return err
			},
		}
		if stage.Rate <= 0 {
			stage.Rate = rate
		}
		return play(ctx, stage)
	}
}

// peers are the hosts besides the victim, resolvers first.
func (s *Scene) peers() []string {
	resolvers := s.Lab.Select("app", "dns")
	rest := slices.DeleteFunc(slices.Clone(s.Bystanders), func(node string) bool { return slices.Contains(resolvers, node) })
	return append(resolvers, rest...)
}

// vulnerable are the hosts that something can spread to: all but network
// equipment.
func (s *Scene) vulnerable() []string {
	equipment := Equipment(s.Lab)
	return slices.DeleteFunc(s.Lab.Nodes(), func(node string) bool {
		return !s.Lab.Isolated(node) || len(s.Lab.Interfaces(node)) == 0 || slices.Contains(equipment, node)
	})
}
