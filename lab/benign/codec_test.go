package benign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/platelet-sdn/platelet/lab/benign/resolver"
)

func TestInnocent(t *testing.T) {
	for err, want := range map[error]bool{
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}: true,
		fmt.Errorf("socket: %w", syscall.EMFILE):                                           true,
		os.ErrDeadlineExceeded:                                                             false,
		syscall.EHOSTUNREACH:                                                               false,
		syscall.ENETUNREACH:                                                                false,
		syscall.ECONNRESET:                                                                 false,
		io.ErrUnexpectedEOF:                                                                false,
		errors.New("short page"):                                                           false,
	} {
		if got := innocent(err); got != want {
			t.Errorf("%v: innocent %v", err, got)
		}
	}
}

func TestLedger(t *testing.T) {
	l := newLedger()
	start := time.Unix(1000, 0)
	for i := range 10 {
		at := start.Add(time.Duration(9-i) * time.Second)
		e := l.begin(at)
		if l.settled(at.Add(1)) {
			t.Fatal("settled while an exchange is open")
		}
		if !l.settled(at) {
			t.Fatal("what begins later is waited for")
		}
		if i == 0 {
			l.drop(e, true)
			continue
		}
		l.end(e, Flow{Behaviour: "web", Start: at, End: at.Add(time.Second), Harmed: i%3 == 0, Lost: i % 3})
	}
	// Adjoining windows count each flow once.
	first, second := l.between(start, start.Add(4*time.Second)), l.between(start.Add(4*time.Second), start.Add(time.Hour))
	if len(first) != 4 || len(second) != 5 || !first[0].Start.Equal(start) {
		t.Errorf("%d and %d flows: %v", len(first), len(second), first)
	}
	all, unserved := l.totals()
	if want := (Sum{Flows: 9, Harmed: 3, Lost: 9}); all["web"] != want || unserved != 1 {
		t.Errorf("%+v, %d unserved", all, unserved)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	l := newLedger()
	for i := range keepFlows + 100 {
		at := time.Unix(int64(i), 0)
		l.end(l.begin(at), Flow{Behaviour: "web", Start: at, End: at})
	}
	got := l.between(time.Time{}, time.Unix(1<<40, 0))
	if len(got) != keepFlows || got[0].Start.Unix() != 100 {
		t.Errorf("%d flows, the first of second %d", len(got), got[0].Start.Unix())
	}
	if all, _ := l.totals(); all["web"].Flows != keepFlows+100 {
		t.Errorf("totals forget: %+v", all)
	}
}

// TestKnownMessages compares with messages written by hand.
func TestKnownMessages(t *testing.T) {
	// As net-snmp's snmpget -v2c -c public sends it, request 1.
	want := []byte{
		0x30, 0x27, 0x02, 0x01, 0x01, 0x04, 0x06, 'p', 'u', 'b', 'l', 'i', 'c',
		0xa0, 0x1a, 0x02, 0x03, 0x01, 0x00, 0x01, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00,
		0x30, 0x0d, 0x30, 0x0b, 0x06, 0x07, 0x2b, 6, 1, 2, 1, 1, 3, 0x05, 0x00,
	}
	// The name is 1.3.6.1.2.1.1.3.0: eight octets.
	want[1], want[14], want[27], want[29], want[31] = 0x28, 0x1b, 0x0e, 0x0c, 0x08
	want = append(want[:39], 0, 0x05, 0x00)
	if got := askUptime(1); !bytes.Equal(got, want) {
		t.Errorf("SNMP:\n% x, not\n% x", got, want)
	}
	if r := tellUptime(askUptime(0x1234)); !isUptime(r, 0x1234) || isUptime(r, 0x1235) {
		t.Errorf("SNMP response % x", r)
	}
	var q [ntpSize]byte
	q[0] = 4<<3 | 3
	binary.BigEndian.PutUint64(q[40:], ntpTime(time.Unix(0, 500_000_000)))
	if got := q[40:]; !bytes.Equal(got, []byte{0x83, 0xaa, 0x7e, 0x80, 0x80, 0, 0, 0}) { // RFC 868's number for 1970
		t.Errorf("NTP time % x", got)
	}
	r := tellTime(q[:])
	if len(r) != ntpSize || r[0] != 4<<3|4 || !bytes.Equal(r[24:32], q[40:]) {
		t.Errorf("NTP response % x", r)
	}
}

// TestConversations lets both sides of each protocol talk over a pipe.
func TestConversations(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(net.Conn)
		greet func(net.Conn) error
		say   func(n uint16) func(net.Conn) (int, error)
	}{
		"modbus": {answerModbus, nil, readRegisters},
		"mqtt":   {answerMQTT, connectMQTT("s1"), publish},
		"rpc":    {answerCall, nil, call},
	} {
		client, server := net.Pipe()
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		_ = server.SetDeadline(time.Now().Add(10 * time.Second))
		done := make(chan struct{})
		go func() { defer close(done); test.serve(server) }()
		if test.greet != nil {
			if err := test.greet(client); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for n := range uint16(300) {
			if _, err := test.say(n)(client); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		_ = client.Close()
		<-done
	}
}

// FuzzServers gives servers what nobody should send.
func FuzzServers(f *testing.F) {
	q, err := resolver.Query(1, "a.example.", dnsmessage.TypeA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(askUptime(1))
	f.Add(append([]byte{4<<3 | 3}, make([]byte, 47)...))
	f.Add([]byte{0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 125})
	f.Add([]byte{0x32, 127, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := tellTime(b); r != nil && len(r) != ntpSize {
			t.Errorf("NTP answers % x", r)
		}
		if r := tellUptime(b); r != nil && len(r) > len(askUptime(0))+16 {
			t.Errorf("SNMP answers % x", r)
		}
		for _, serve := range []func(net.Conn){answerModbus, answerMQTT, answerCall, keepBackup, tellMetrics} {
			serve(&said{Reader: bytes.NewReader(b)})
		}
	})
}

// said is a caller who says one thing and does not listen.
type said struct {
	net.Conn
	*bytes.Reader
}

func (s *said) Read(b []byte) (int, error)    { return s.Reader.Read(b) }
func (s *said) Write(b []byte) (int, error)   { return len(b), nil }
func (s *said) SetDeadline(_ time.Time) error { return nil }
