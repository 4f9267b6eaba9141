package detector

import (
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// knocks are how many attempts of a stranger that nobody answered make a
	// finding.
	knocks = 8
	// knockWait is how long an answer may take, knockRetry how long the same
	// client port stands for the same attempt: a Linux host retransmits a SYN
	// for 63 s before the last wait (tcp_syn_retries of 6).
	knockWait  = int64(2 * time.Second)
	knockRetry = int64(65 * time.Second)
)

// knockWatch finds strangers that come back again and again to where nobody has
// ever answered: too few services for the random walk, which takes each only
// once. A client that retries a server that is down does the same, so only those
// count who are neither of the guarded network nor near it, who were never part
// of a conversation that anybody answered, at services that have served nobody.
// On the Internet hardly anything else looks like that (Wustrow et al., Internet
// background radiation revisited, IMC 2010). It is no statistical test: the
// finding is of low severity and contains nothing.
type knockWatch struct {
	e      *Engine
	hosts  *bounded.Table[address, knocker]
	served *bounded.Table[servedKey, int64] // services that answered, when last
}

type servedKey struct {
	addr    address
	service uint64
}

// knocker is what is remembered of a stranger, or of whoever was part of an
// answered conversation.
type knocker struct {
	first, last int64
	service     uint64 // of the first attempt
	port        uint16 // client port of the latest attempt
	several     bool   // services
	met         bool
	tries       uint32 // attempts that were not answered in time
	open        uint32 // attempts that still may be
}

func newKnockWatch(e *Engine) sensor {
	w := &knockWatch{e: e}
	w.hosts = bounded.New[address](e.cfg.Limit.Suspects, func(k *knocker) int64 {
		class := int64(0)
		if k.met || k.tries >= 2 {
			class = 1
		}
		return rank(class, k.last)
	})
	w.served = bounded.New[servedKey](e.cfg.Limit.Suspects, func(at *int64) int64 { return rank(0, *at) })
	return w
}

func (w *knockWatch) edge(ev *edgeEvent) {
	switch ev.what {
	case edgeAccepted:
		if ev.edge.accepts == 1 {
			w.meet(ev)
		}
	case edgeOpened:
		w.try(ev)
	case edgeFailed:
		if _, k := w.hosts.Find(ev.key.src); k != nil && !k.met && k.open > 0 && ev.edge.accepts == 0 {
			k.open--
			k.tries++
			w.decide(ev, k)
		}
	}
}

// meet notes a conversation that was answered: neither side is a stranger, and
// the service exists.
func (w *knockWatch) meet(ev *edgeEvent) {
	for _, who := range [...]address{ev.key.src, ev.key.dst} {
		if _, k, _ := w.hosts.Put(who, rank(1, ev.now)); k != nil {
			*k = knocker{met: true, last: ev.now}
		}
	}
	if _, at, _ := w.served.Put(servedKey{ev.key.dst, ev.key.service}, rank(0, ev.now)); at != nil {
		*at = ev.now
	}
}

// try notes an attempt of a stranger.
func (w *knockWatch) try(ev *edgeEvent) {
	k := &ev.key
	if w.e.inside(k.src) || k.src.near(k.dst) {
		return
	}
	if _, at := w.served.Find(servedKey{k.dst, k.service}); at != nil {
		return
	}
	_, n, fresh := w.hosts.Put(k.src, rank(0, ev.now))
	if n == nil || n.met {
		return
	}
	if fresh {
		n.first, n.service = ev.now, k.service
	} else if ev.r.Source != flow.SourceLog && k.proto() == flow.ProtoTCP && ev.r.SrcPort == n.port && ev.now-n.last < knockRetry {
		return
	}
	if ev.now-n.last >= knockWait {
		n.tries += n.open
		n.open = 0
	}
	n.last, n.port = ev.now, ev.r.SrcPort
	n.several = n.several || k.service != n.service
	n.open++
	w.decide(ev, n)
}

func (w *knockWatch) decide(ev *edgeEvent, n *knocker) {
	key := findingKey{kind: KindPortScan, host: ev.key.src, peer: ev.key.dst}
	enough := uint32(knocks)
	if doorOf(ev.key) != doorNone && !n.several {
		enough = w.e.cfg.Login.Knocks // loginWatch has the better name for them
	}
	if n.tries < enough || w.e.ledger.byKey[key] == nil && w.e.ledger.suspicious(ev.key.src) {
		return // it has been found for something better
	}
	tries := float64(n.tries)
	w.e.ledger.report(&report{
		key: key, state: StateFiring, first: n.first, owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), score: 0.9, confidence: 0.8, severity: SeverityLow, technique: "T1595.001",
		records: int64(n.tries + n.open), evidence: []Evidence{{"unanswered_attempts", tries, 0, 1}},
		limits: []Limit{{"unanswered_attempts", float64(enough) - 1}},
	})
}

func (w *knockWatch) resolved(key findingKey) {
	if _, k := w.hosts.Find(key.host); k != nil {
		k.tries, k.open = 0, 0
	}
}

// near reports whether two addresses are likely of the same organisation: IPv4
// networks of /16, IPv6 sites of /48 (RFC 6177).
func (a address) near(b address) bool {
	if a.is4() != b.is4() {
		return false
	}
	if a.is4() {
		return a.lo>>16 == b.lo>>16
	}
	return a.hi>>16 == b.hi>>16
}
