package intrusion

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	dropPort = 443
	// fastChunk is what one step of the fast exfiltration writes, in octets:
	// a packet. fastFile is how many make a file, fastLimit all files.
	fastChunk = 1400
	fastFile  = 6000
	fastLimit = 45_000
	// sendBuffer bounds what waits in the kernel, in octets.
	sendBuffer = 128 << 10
	// slowChunk is what one step of the slow one uploads; slowLimit bounds
	// the steps.
	slowChunk = 2048
	slowLimit = 3600
)

// ExfiltrateFast uploads files of random octets over TLS to the victim's
// node, which stands for the intruders' drop server, the stage's rate in
// packets of 1,400 octets per second.
func ExfiltrateFast(ctx context.Context, s *Stage) error {
	drop, stop, err := s.dropServer()
	if err != nil {
		return err
	}
	defer stop()
	left := s.limit(fastLimit)
	clock := newPace(s.Rate)
	for left > 0 && ctx.Err() == nil {
		n, err := s.upload(ctx, drop, clock, min(left, fastFile))
		if errors.Is(err, agent.ErrSpent) {
			return err
		}
		left -= max(1, n) // where nobody answers it counts all the same, or would never end
	}
	return nil
}

// upload writes one file, and reports how many chunks went. An error means
// that the server was not reached, or not any more.
func (s *Stage) upload(ctx context.Context, drop *agent.Station, clock *pace, chunks int) (n int, err error) {
	from := s.attacker()
	a := agent.Action{
		Time: time.Now(), Agent: from.Node, Action: "upload", From: from.Addr(), To: drop.Addr(), Proto: "tcp", Port: dropPort,
	}
	told := 0
	say := func(note string) {
		a.Packets, a.Bytes = uint64(n-told), uint64(n-told)*fastChunk
		a.Seconds, a.Note = time.Since(a.Time).Seconds(), note
		s.Record(a)
		a.Time, told = time.Now(), n
	}
	dialing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	plain, err := from.Dial(dialing, "tcp", agentAny, at(drop, dropPort))
	if err != nil {
		say(noAnswer)
		return 0, err
	}
	defer plain.Close()
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = plain.SetDeadline(soon())
	if t, ok := plain.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(sendBuffer) // so that it shows soon when nothing gets through
	}
	c := tls.Client(plain, trusting())
	_, err = fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: drop\r\nContent-Length: %d\r\n\r\n", chunks*fastChunk)
	buf := make([]byte, fastChunk)
	secret := rand.NewChaCha8([32]byte{byte(s.Rand.UintN(256))})
	for err == nil && n < chunks {
		if time.Since(a.Time) >= time.Second {
			say("")
		}
		if err = errors.Join(clock.wait(ctx), s.charge()); err != nil {
			break
		}
		_, _ = secret.Read(buf)
		_ = c.SetWriteDeadline(soon())
		if _, err = c.Write(buf); err == nil {
			n++
		}
	}
	if err == nil {
		err = answer(c)
	}
	if err != nil {
		say("broken off")
		return n, err
	}
	say("complete")
	return n, nil
}

// answer waits for the server's word that it has everything.
func answer(c *tls.Conn) error {
	_ = c.SetReadDeadline(soon())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ExfiltrateSlow uploads small pieces of random octets over TLS, each on a
// connection of its own, at the stage's rate.
func ExfiltrateSlow(ctx context.Context, s *Stage) error {
	drop, stop, err := s.dropServer()
	if err != nil {
		return err
	}
	defer stop()
	client := browser(s.attacker())
	url := "https://" + at(drop, dropPort).String() + "/sync"
	return ended(ctx, s.attempts(ctx, s.limit(slowLimit), func(int) job {
		piece := make([]byte, slowChunk)
		for i := range piece {
			piece[i] = byte(s.Rand.Uint32())
		}
		return func(ctx context.Context) { s.post(ctx, client, url, drop, piece) }
	}))
}

func (s *Stage) post(ctx context.Context, client *http.Client, url string, drop *agent.Station, piece []byte) {
	from := s.attacker()
	a := agent.Action{
		Time: time.Now(), Agent: from.Node, Action: "upload", From: from.Addr(), To: drop.Addr(), Proto: "tcp", Port: dropPort, Note: noAnswer,
	}
	if req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(piece)); err == nil {
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			a.Note, a.Bytes = "complete", uint64(len(piece))
		}
	}
	s.Record(a)
}

// dropServer starts the server that takes everything and keeps nothing.
func (s *Stage) dropServer() (*agent.Station, func(), error) {
	drop, err := s.open(s.Victim)
	if err != nil {
		return nil, nil, err
	}
	wrap, err := wrapping("https")
	if err != nil {
		return nil, nil, err
	}
	var own servers
	err = own.web(drop, dropPort, wrap, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	return drop, own.close, err
}
