package actions

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

var syslogForm = regexp.MustCompile(`^<35>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ platelet \d+ port-scan - (CEF:0\|.*)$`)

const wantCEF = `|port-scan|many ports of one host (vertical)|8|rt=1795424400500 src=10.0.0.7 dst=10.0.0.9 smac=02:00:00:00:00:07 dpt=22 proto=TCP ` +
	`deviceInboundInterface=p7 act=quarantine externalId=f-1 cs1Label=MITRE ATT&CK technique cs1=T1046 cs2Label=decision cs2=d-1 ` +
	`msg=port-scan by 10.0.0.7: a\=b | c\nd`

func checkSyslog(t *testing.T, raw string) {
	t.Helper()
	m := syslogForm.FindStringSubmatch(raw)
	if m == nil || !strings.HasSuffix(m[1], wantCEF) {
		t.Errorf("got  %s\nwant %s", raw, wantCEF)
	}
}

func send1(t *testing.T, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := New(nil).Do(ctx, call(playbook.Notify{Syslog: &playbook.Syslog{To: to}})); err != nil {
		t.Fatal(err)
	}
}

func TestSyslogByDatagrams(t *testing.T) {
	for _, network := range []string{"udp", "unixgram"} {
		address := "127.0.0.1:0"
		if network == "unixgram" {
			address = filepath.Join(t.TempDir(), "log")
		}
		l, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		send1(t, strings.TrimSuffix(network, "gram")+":"+l.LocalAddr().String())
		buf := make([]byte, 4096)
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		checkSyslog(t, string(buf[:n]))
	}
}

func TestSyslogByStreams(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "log")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			raw, _ := io.ReadAll(conn)
			got <- string(raw)
		}()
		send1(t, network+":"+l.Addr().String())
		raw := <-got
		length, msg, _ := strings.Cut(raw, " ")
		if n, err := strconv.Atoi(length); err != nil || n != len(msg) {
			t.Errorf("frame of %s bytes, got %d", length, len(msg))
		}
		checkSyslog(t, msg)
	}
}

func TestCEFOfIPv6(t *testing.T) {
	c := call(nil)
	c.Facts.Host.Address, c.Facts.Finding.Victim = "fd00::7", "fd00::9"
	if got := cef("1|2", c, strings.Repeat("x", 5000)); !strings.Contains(got, `|platelet|1\|2|`) || !strings.Contains(got, "c6a2Label=Source IPv6 Address c6a2=fd00::7 c6a3Label=Destination IPv6 Address c6a3=fd00::9 ") || len(got) > 1500 {
		t.Error(got)
	}
}

// mailbox is an SMTP server (RFC 5321) that offers STARTTLS and takes one mail.
type mailbox struct {
	l      net.Listener
	config *tls.Config
	refuse string // prefix of a command that is answered with 550
	got    chan string
}

func newMailbox(t *testing.T, refuse string) (*mailbox, string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS() // for its certificate, which is good for 127.0.0.1
	t.Cleanup(srv.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m := &mailbox{l: l, config: &tls.Config{Certificates: srv.TLS.Certificates}, refuse: refuse, got: make(chan string, 1)}
	go m.serve()
	return m, file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
}

func (m *mailbox) serve() {
	conn, err := m.l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	in, secure := bufio.NewReader(conn), false
	fmt.Fprint(conn, "220 here\r\n")
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			return
		case m.refuse != "" && strings.HasPrefix(line, m.refuse):
			fmt.Fprint(conn, "550 no\r\n")
		case strings.HasPrefix(line, "EHLO") && secure:
			fmt.Fprint(conn, "250-here\r\n250 AUTH PLAIN\r\n")
		case strings.HasPrefix(line, "EHLO"):
			fmt.Fprint(conn, "250-here\r\n250 STARTTLS\r\n")
		case strings.HasPrefix(line, "STARTTLS"):
			fmt.Fprint(conn, "220 go\r\n")
			t := tls.Server(conn, m.config)
			conn, in, secure = t, bufio.NewReader(t), true
		case strings.HasPrefix(line, "AUTH") && line != "AUTH PLAIN AHVzZXIAaHVzaA==\r\n":
			fmt.Fprint(conn, "535 who?\r\n")
		case strings.HasPrefix(line, "AUTH"):
			fmt.Fprint(conn, "235 fine\r\n")
		case strings.HasPrefix(line, "DATA"):
			fmt.Fprint(conn, "354 go\r\n")
			var b bytes.Buffer
			for l, err := in.ReadString('\n'); err == nil && l != ".\r\n"; l, err = in.ReadString('\n') {
				b.WriteString(l)
			}
			m.got <- b.String()
			fmt.Fprint(conn, "250 taken\r\n")
		default:
			fmt.Fprint(conn, "250 fine\r\n")
		}
	}
}

func TestEmail(t *testing.T) {
	m, ca := newMailbox(t, "")
	e := playbook.Email{Server: m.l.Addr().String(), CA: ca, User: "user", Password: file(t, "hush\n"), From: "platelet@example.org", To: []string{"a@example.org", "b@example.org"},
		Subject: "Überfall\r\nBcc: c@example.org", Body: "was: ä\n.\nende"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := New(nil).Do(ctx, call(playbook.Notify{Email: &e})); err != nil {
		t.Fatal(err)
	}
	got, err := netmail.ReadMessage(strings.NewReader(<-m.got))
	if err != nil {
		t.Fatal(err)
	}
	subject, _ := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	body, _ := io.ReadAll(quotedprintable.NewReader(got.Body))
	if subject != "Überfall Bcc: c@example.org" || got.Header.Get("Bcc") != "" || got.Header.Get("Message-ID") != "<r-1-step@example.org>" ||
		strings.ReplaceAll(string(body), "\r\n", "\n") != "was: ä\n..\nende\n" && strings.ReplaceAll(string(body), "\r\n", "\n") != "was: ä\n.\nende\n" {
		t.Errorf("%q %v %q", subject, got.Header, body)
	}
}

func TestEmailIsRefused(t *testing.T) {
	e := func(m *mailbox, ca string) playbook.Email {
		return playbook.Email{Server: m.l.Addr().String(), CA: ca, From: "platelet@example.org", To: []string{"a@example.org"}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, ca := newMailbox(t, "RCPT")
	if err := email(ctx, call(nil), e(m, ca)); !permanent(err) {
		t.Errorf("recipient refused: %v", err)
	}
	m, _ = newMailbox(t, "")
	if err := email(ctx, call(nil), e(m, "")); err == nil {
		t.Error("an unknown server was believed")
	}
	m, ca = newMailbox(t, "")
	bad := e(m, ca)
	bad.User, bad.Password = "user", file(t, "wrong")
	if err := email(ctx, call(nil), bad); !permanent(err) {
		t.Errorf("wrong password: %v", err)
	}
}
