package intrusion

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	// hops bounds how far an intruder walks from the first host.
	hops = 3
	// session is how an intruder's agent asks one of ours to let it in, with
	// the credentials that it is supposed to have stolen.
	session = "PLATELET LAB SESSION"
	welcome = "welcome"
	stolen  = "stolen"
)

// door is a service by which administrators come in, as far as the first
// messages of its protocol.
type door struct {
	name  string
	port  uint16
	hello []byte // what a client says first
	reply []byte // what a server answers
}

// doors are the services that an intruder tries besides SSH, in this order.
func doors() []door {
	return []door{
		{ // SMB2 NEGOTIATE in a NetBIOS session message, MS-SMB2 2.2.3 and 2.2.4
			name: "smb", port: 445,
			hello: append([]byte{0, 0, 0, 68, 0xfe, 'S', 'M', 'B', 64}, make([]byte, 63)...),
			reply: append([]byte{0, 0, 0, 68, 0xfe, 'S', 'M', 'B', 64, 15: 0, 16: 1}, make([]byte, 55)...),
		},
		{ // X.224 connection request and confirm in TPKT, MS-RDPBCGR 2.2.1.1 and 2.2.1.2
			name: "rdp", port: 3389,
			hello: []byte{3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0},
			reply: []byte{3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 1, 8, 0, 2, 0, 0, 0},
		},
		{ // WS-Management over HTTP, MS-WSMV 2.2.9.1
			name: "winrm", port: 5985,
			hello: []byte("POST /wsman HTTP/1.1\r\nHost: host\r\nContent-Length: 0\r\n\r\n"),
			reply: []byte("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
		},
	}
}

// sshDoor is the number of SSH among a host's doors.
func sshDoor() int { return len(doors()) }

// LateralMovement lets an intruder walk from host to host: from the first
// attacker it tries SMB, RDP, WinRM and SSH on the victim and the peers, at
// the stage's rate, moves to a host that lets it in, and goes on from there.
// Every host answers at all four; each lets in at one.
func LateralMovement(ctx context.Context, s *Stage) error {
	hosts, err := s.targets()
	if err != nil {
		return err
	}
	var own servers
	defer own.close()
	for _, h := range hosts {
		if err := own.furnish(h, s.Rand.IntN(sshDoor()+1)); err != nil {
			return err
		}
	}
	left := s.limit(hops * len(hosts) * (sshDoor() + 1))
	been := map[string]bool{}
	from := s.attacker()
	for range hops {
		been[from.Node] = true
		next, tried, err := s.look(ctx, from, hosts, been, left)
		if err != nil || next == nil {
			return ended(ctx, err)
		}
		left -= tried
		s.Record(agent.Action{Agent: from.Node, Action: "moved", From: from.Addr(), To: next.Addr(), Note: "to " + next.Node})
		from = next
	}
	return nil
}

// look tries the doors of all hosts from where the intruder is, and chooses
// one that is open and leads to where it has not been; nil when there is none.
func (s *Stage) look(ctx context.Context, from *agent.Station, hosts []*agent.Station, been map[string]bool, left int) (*agent.Station, int, error) {
	type try struct {
		host *agent.Station
		door int
	}
	var tries []try
	for _, h := range hosts {
		for d := range sshDoor() + 1 {
			if h.Node != from.Node {
				tries = append(tries, try{h, d})
			}
		}
	}
	s.Rand.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
	n := min(left, len(tries))
	in := make([]bool, n)
	err := s.attempts(ctx, n, func(i int) job {
		return func(ctx context.Context) { in[i] = s.knock(ctx, from, tries[i].host, tries[i].door) == accepted }
	})
	if err != nil {
		return nil, n, err
	}
	for i, ok := range in {
		if ok && !been[tries[i].host.Node] {
			return tries[i].host, n, nil
		}
	}
	return nil, n, nil
}

// knock tries one door of one host.
func (s *Stage) knock(ctx context.Context, from, to *agent.Station, n int) string {
	a := agent.Action{Time: time.Now(), Agent: from.Node, Action: "session", From: from.Addr(), To: to.Addr(), Proto: "tcp"}
	name, outcome := "ssh", ""
	if n == sshDoor() {
		a.Port = sshPort
		outcome = sshTry(ctx, from, to, adminName, stolen)
	} else {
		d := doors()[n]
		name, a.Port = d.name, d.port
		outcome = d.try(ctx, from, to)
	}
	a.Note = name + ": " + outcome
	s.Record(a)
	return outcome
}

// try reports what a door says.
func (d door) try(ctx context.Context, from, to *agent.Station) string {
	c, err := from.Dial(ctx, "tcp", agentAny, at(to, d.port))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "closed"
	}
	if err != nil {
		return noAnswer
	}
	defer c.Close()
	_ = c.SetDeadline(soon())
	reply := make([]byte, len(d.reply))
	if _, err := c.Write(d.hello); err != nil {
		return noAnswer
	}
	if _, err := io.ReadFull(c, reply); err != nil {
		return noAnswer
	}
	if _, err := io.WriteString(c, session+"\n"); err != nil {
		return noAnswer
	}
	said, err := readLine(bufio.NewReader(c))
	switch {
	case err != nil:
		return noAnswer
	case said == welcome:
		return accepted
	}
	return rejected
}

// furnish opens all doors of a host, of which one lets in.
func (s *servers) furnish(st *agent.Station, open int) error {
	for i, d := range doors() {
		if err := s.accept(st, d.port, func(c net.Conn) { d.answer(c, i == open) }); err != nil {
			return err
		}
	}
	word := ""
	if open == sshDoor() {
		word = stolen
	}
	return s.ssh(st, word)
}

// answer is a door's side.
func (d door) answer(c net.Conn, open bool) {
	hello := make([]byte, len(d.hello))
	if _, err := io.ReadFull(c, hello); err != nil || !bytes.Equal(hello, d.hello) {
		return
	}
	if _, err := c.Write(d.reply); err != nil {
		return
	}
	if line, err := readLine(bufio.NewReader(c)); err != nil || line != session {
		return
	}
	said := "denied"
	if open {
		said = welcome
	}
	_, _ = io.WriteString(c, said+"\n")
}
