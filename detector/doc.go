// Package detector turns flow records into findings. It imports no sockets,
// processes or drivers: it is a function of records and of the clock that its
// caller passes in, so a recorded hour gives the same findings as a live one.
//
// # How it works
//
// An Engine takes records and keeps, in tables of fixed size with keyed hashes,
// what its detectors share: hosts, first contacts, conversations between a client
// and a service (edges), and a window of thirty features per host and minute. Each
// detector is a small type that takes records, edges, windows or the clock, and
// reports to the ledger, which alone makes, promotes, refreshes and resolves
// findings. Kinds and features, with units, techniques and sources, are listed in
// REFERENCE.md, which is generated from Kinds and Features.
//
// Scans: the threshold random walk of Jung, Paxson, Berger and Balakrishnan
// (IEEE S&P 2004) over first contacts, keyed by source, target and service.
// Four failures more than successes decide. Three things are added to the
// paper's walk. Successes earn credit that fades with a half-life of a minute,
// so that a monitor whose dead hosts time out after its live ones answered is
// not found, and a host that was taken over is. Failures that are scattered
// over targets and ports alike, as those of a peer-to-peer client, do not
// decide. Many unanswered ports of one target decide before they time out.
// Segments that no honest stack sends are failures in themselves. Where sampling
// hides answers the walk abstains; without a tap another test takes what kind of
// segments are sampled, and alerts after about ten sampled probes.
//
// Address sweeps: address requests minus replies per station, above what the
// station does anyway, because requests for absent neighbours never become
// contacts and the tap shows no addresses of ARP.
//
// Floods: CUSUM (Page, Biometrika 1954) of packets towards a victim through a
// port. SYN floods are tested twice: from sources that never completed a
// conversation, at a low drift, and from all, at a drift that busy servers do
// not exceed. Answers of the victim and completed connections are credited.
// The drift follows a slow baseline that is not learned while the statistic is
// high, below a cap that no history can raise.
//
// Everything else (worms, amplification, guessed passwords, lateral movement,
// beacons, exfiltration, tunnels in DNS, claims to addresses of others, denied
// traffic, broken rhythms) has a detector of its own, whose comment names its
// source and what it takes for honest.
//
// Two more judge a host's minute as a whole. The unsupervised ensemble (MIDAS on
// the host graph, a random cut forest and an autoencoder on the features, made
// comparable by conformal calibration) finds a host that is unlike itself, its
// role and its hour of the day; it learns nothing from a host that is suspected.
// The classifier of package model learns from labels alone.
//
// # Who may contain
//
// Score is the probability that the finding is right, Confidence the share of what
// the detector needs that telemetry showed it. A finding may be acted on by itself
// only when a sequential test with a stated bound of error decided, and together
// with others when two families agree on the host, each at 0.95 and with a
// confidence of at least 0.8. One vote alone only alerts. See Finding.MayContain.
//
// # Figures
//
// Time to decide, from the attack's first record, in simulation (the tests
// assert these or tighter):
//
//	scan, 1,000 probes/s, refused          4 ms (the fourth refusal)
//	the same, silent target                60 ms
//	sweep of absent neighbours             215 ms (200 ms are the timeout)
//	SYN flood, 100,000/s, spoofed          10 ms; 20 ms just after the start
//	SYN flood, 110,000/s, one source       20 ms
//	UDP flood, 100,000/s, 1 % or 1:10      40 ms (26 ms expected)
//	the same in a single conversation      90 ms
//	ICMP flood, 50,000/s, all answered     40 ms
//
// Labelled sets: the table of controller/evaluate/README.md.
//
// Those who know how it works have these ways round it (robustness_test.go and
// poison_test.go print the figures, and fail when they get worse):
//
//	ramp of a UDP flood, 1, 3, 10 % a minute     found at 5,200, 5,300, 5,500 packets/s, 5,000 being the floor
//	ramp of a host's fan-out, the same           found at 12 to 20, 14 to 40, 11 to 35 services a minute
//	honest contacts among probes, 1:4 to 2:1     found after 6 to 9 probes instead of 4
//	one probe a second to ten minutes, each
//	after an honest contact                      found after 4 to 9 probes
//	1, 10, 100 windows of chaff per probe        found in the first minute
//	60 hosts that behave as the attacker will    found in the first minute
//	a host that stays just inside its baseline   up to 16 probes a minute for the ensemble; the walk finds four
//	addresses chosen to collide in a sketch      counted within 20 %, whatever the key
//	a million addresses                          evicted by worth; suspects and real hosts stay
//
// Memory: with tables for a million hosts and half as many edges the heap is
// below 1 GB (budget_test.go measures it). Bytes per entry of every
// table: BenchmarkMemory. Cost per record: BenchmarkDetectors plays a network of
// 2,000 hosts to all detectors, to none but those for scans, floods and addresses,
// and to each of the others alone beside these; compare within one run
// (go test -run '^$' -bench Detectors -count 6). Of more than 200,000 samples of
// established traffic a second some stand for the rest (thin.go), so that a core
// keeps up with more than a million; floods are counted before, and connection
// evidence is never thinned.
//
// # Limits
//
// An attacker with an accomplice that accepts everything can earn credit.
// A gateway that resolves addresses for somebody else's scan is found in that
// somebody's place; no host is named when several are behind one station.
// A flood spread over so many victims that none exceeds its drift is not seen.
// A flood that its victim answers (queries to a resolver) is credited as long
// as it is answered. Where both ways are sampled at 1 %, a new bulk transfer that
// is acknowledged less than every fourth packet can look like a flood in its
// first 100 ms; what is one conversation is given two and a half times the
// evidence of a flood from many ports for that reason. A one-way UDP stream above
// the floor that somebody listens to, such as a flow export, is told and not acted
// on. What is only sampled shows no outcomes: without the tap most detectors
// abstain. Content is not looked at but for names in DNS. Hosts are known by
// address alone: tenants with overlapping addresses need an engine each.
package detector
