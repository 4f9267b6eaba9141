package benign

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/lab/benign/resolver"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	// dnsMean is how often a client asks for a name, in seconds.
	dnsMean = 0.4
	// nameCount is how many names clients know.
	nameCount = 500

	ntpPort  = 123
	ntpSize  = 48 // octets, RFC 5905 without extensions
	ntpEvery = 4 * time.Second
	// ntpEpoch is the Unix epoch in NTP's seconds.
	ntpEpoch = 2_208_988_800
)

// furnishDNS lets clients (role=client) ask the resolver (app=dns) for names.
func furnishDNS(t *Traffic, pace float64) error {
	servers, err := t.nodes("app=dns")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err != nil {
		return err
	}
	to, err := t.serveDNS(servers[0])
	if err != nil {
		return err
	}
	for _, node := range clients {
		a, err := t.actor("dns", node)
		if err != nil {
			return err
		}
		next := func() time.Duration {
			return time.Duration(a.rand.ExpFloat64() * dnsMean / pace * float64(time.Second))
		}
		t.run(func(ctx context.Context) { a.every(ctx, next, func() { a.lookUp(ctx, to) }) })
	}
	return nil
}

// lookUp asks for one name.
func (a *actor) lookUp(ctx context.Context, to peer) {
	id, name := uint16(a.rand.Uint32()), fmt.Sprintf("host-%d.lab.example.", a.rand.IntN(nameCount))
	kind := dnsmessage.TypeA
	if a.rand.IntN(3) == 0 {
		kind = dnsmessage.TypeAAAA
	}
	a.exchange(ctx, "query", to, patience, func(ctx context.Context) (int, error) {
		query, err := resolver.Query(id, name, kind)
		if err != nil {
			return 0, err
		}
		return a.ask(ctx, to, query, func(b []byte) bool {
			got, ok := resolver.Reply(b)
			return ok && got == id
		})
	})
}

// furnishNTP lets everybody ask for the time: at app=ntp, the gateway or the
// resolver.
func furnishNTP(t *Traffic, pace float64) error {
	servers, err := t.nodes("app=ntp", "role=gateway", "app=dns")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err != nil {
		return err
	}
	to, err := t.serveUDP("ntp", servers[0], ntpPort, tellTime)
	if err != nil {
		return err
	}
	for _, node := range clients {
		a, err := t.actor("ntp", node)
		if err != nil {
			return err
		}
		t.run(func(ctx context.Context) { a.every(ctx, a.jittered(ntpEvery, pace), func() { a.askTime(ctx, to) }) })
	}
	return nil
}

// askTime makes one exchange of NTP.
func (a *actor) askTime(ctx context.Context, to peer) {
	var q [ntpSize]byte
	q[0] = 4<<3 | 3 // version 4, client
	binary.BigEndian.PutUint64(q[40:], ntpTime(time.Now()))
	a.exchange(ctx, "query", to, patience, func(ctx context.Context) (int, error) {
		return a.ask(ctx, to, q[:], func(b []byte) bool {
			return len(b) == ntpSize && b[0]&7 == 4 && binary.BigEndian.Uint64(b[24:]) == binary.BigEndian.Uint64(q[40:])
		})
	})
}

// tellTime answers a client's NTP message (RFC 5905, section 7.3).
func tellTime(q []byte) []byte {
	if len(q) < ntpSize || q[0]&7 != 3 {
		return nil
	}
	now := ntpTime(time.Now())
	r := make([]byte, ntpSize)
	r[0], r[1], r[2], r[3] = q[0]&0x38|4, 2, q[2], 0xec // server, stratum 2, precision 2^-20 s
	copy(r[12:], []byte{127, 127, 1, 1})
	binary.BigEndian.PutUint64(r[16:], now)
	copy(r[24:], q[40:48]) // origin
	binary.BigEndian.PutUint64(r[32:], now)
	binary.BigEndian.PutUint64(r[40:], now)
	return r
}

// ntpTime is a moment in NTP's format: seconds and their 2^32nd parts.
func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/1e9
}
