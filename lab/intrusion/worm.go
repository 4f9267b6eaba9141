package intrusion

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// wormPort is where the worm's hosts are vulnerable, so to speak.
	wormPort = 445
	// mark is the infection: a line that one agent of ours says to another.
	mark = "PLATELET LAB MARK"
	// lineLimit bounds what is read of a line.
	lineLimit = 256
)

// Answers to the mark.
const (
	markTaken   = "marked"
	markAlready = "marked already"
)

// Worm lets a worm loose at the attackers. A taken host goes over its own
// subnet, at the stage's rate per host, and takes every host that listens for
// the mark; those do the same. Ground truth has a line per probe and one,
// "infected", per host taken, of the host that took it.
func Worm(ctx context.Context, s *Stage) error {
	var own servers
	defer own.close()
	o, err := s.newOutbreak(strain{
		ports: []uint16{wormPort},
		greet: func(_ context.Context, _ *outbreak, b *bot, c net.Conn) string { return b.mark(c, bufio.NewReader(c)) },
		serve: func(o *outbreak, host *bot, c net.Conn) { host.beMarked(ctx, o, c, bufio.NewReader(c)) },
	}, &own, s.Rand.Uint64())
	if err != nil {
		return err
	}
	return ended(ctx, o.run(ctx))
}

// mark says the mark, and reports the answer.
func (b *bot) mark(c net.Conn, r *bufio.Reader) string {
	if _, err := fmt.Fprintf(c, "%s %s\n", mark, b.station.Node); err != nil {
		return noAnswer
	}
	answer, err := readLine(r)
	if err != nil {
		return noAnswer
	}
	return answer
}

// beMarked waits for the mark, and answers it.
func (b *bot) beMarked(ctx context.Context, o *outbreak, c net.Conn, r *bufio.Reader) {
	line, err := readLine(r)
	if err != nil || !strings.HasPrefix(line, mark+" ") {
		return // not one of ours
	}
	answer := markAlready
	if o.take(ctx, b, remote(c), local(c).Port()) {
		answer = markTaken
	}
	_, _ = io.WriteString(c, answer+"\n")
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	var out strings.Builder
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == '\n':
			return strings.TrimSuffix(out.String(), "\r"), nil
		case out.Len() == lineLimit:
			return "", fmt.Errorf("line of more than %d octets", lineLimit)
		}
		out.WriteByte(c)
	}
}

// remote is who is at the other end, local where this end is.
func remote(c net.Conn) netip.Addr { return addrPort(c.RemoteAddr()).Addr() }

func local(c net.Conn) netip.AddrPort { return addrPort(c.LocalAddr()) }

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// soon is the deadline of one step of a conversation.
func soon() time.Time { return time.Now().Add(patience) }
