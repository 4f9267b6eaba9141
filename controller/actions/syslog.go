package actions

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
)

// What the dictionary of CEF allows, in bytes to be safe where it counts characters;
// receivers of syslog should take messages of 2048 (RFC 5424, section 6.1).
const (
	maxText    = 1023 // msg
	maxVersion = 31   // Device Version
)

// cut shortens a text, and shows that it did.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// facility is security/authorization (RFC 5424, table 1).
const facility = 4

// syslog sends one message. UDP and datagram sockets give no receipt.
func (a *Actions) syslog(ctx context.Context, c run.Call, s playbook.Syslog) error {
	network, address, err := playbook.SyslogTarget(s.To)
	if err != nil {
		return run.Permanent(err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	text := s.Message
	if text == "" {
		text = c.Facts.Finding.Why
	}
	msg := message(time.Now(), host, c, cef(a.version, c, text))
	conn, err := dial(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	if conn.RemoteAddr().Network() == "tcp" || conn.RemoteAddr().Network() == "unix" {
		msg = strconv.Itoa(len(msg)) + " " + msg // RFC 6587, 3.4.1
	}
	_, err = conn.Write([]byte(msg))
	return err
}

// dial takes a Unix socket for one of datagrams first, as syslog's usually is.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "unix" {
		if conn, err := d.DialContext(ctx, "unixgram", address); err == nil {
			return conn, nil
		}
	}
	return d.DialContext(ctx, network, address)
}

// message is a syslog message (RFC 5424).
func message(now time.Time, host string, c run.Call, text string) string {
	severity := map[detector.Severity]int{detector.SeverityCritical: 2, detector.SeverityHigh: 3, detector.SeverityMedium: 4}
	level, ok := severity[c.Facts.Finding.Severity]
	if !ok {
		level = 5
	}
	id := string(c.Facts.Finding.Kind)
	if id == "" {
		id = "-"
	}
	return fmt.Sprintf("<%d>1 %s %s platelet %d %s - %s", facility*8+level, now.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), host, os.Getpid(), id, text)
}

// cef is the payload: ArcSight Common Event Format, version 0.
func cef(version string, c run.Call, text string) string {
	f := &c.Facts.Finding
	about := string(f.Kind)
	if info, ok := f.Kind.Info(); ok {
		about = info.About
	}
	severity := map[detector.Severity]int{detector.SeverityLow: 3, detector.SeverityMedium: 5, detector.SeverityHigh: 8, detector.SeverityCritical: 10}[f.Severity]
	head := []string{"CEF:0", "Platelet", "platelet", cut(version, maxVersion), string(f.Kind), about, strconv.Itoa(severity)}
	for i, h := range head {
		head[i] = strings.NewReplacer(`\`, `\\`, "|", `\|`, "\n", " ", "\r", " ").Replace(h)
	}
	var ext []string
	add := func(key, value string) {
		if value != "" {
			ext = append(ext, key+"="+strings.NewReplacer(`\`, `\\`, "=", `\=`, "\n", `\n`, "\r", `\r`).Replace(value))
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, f.Time); err == nil {
		add("rt", strconv.FormatInt(t.UnixMilli(), 10))
	}
	addresses(add, c.Facts.Host.Address, f.Victim)
	add("smac", c.Facts.Host.MAC)
	if f.Port != 0 {
		add("dpt", strconv.Itoa(int(f.Port)))
	}
	add("proto", strings.ToUpper(f.Protocol))
	add("deviceInboundInterface", c.Facts.Host.Port)
	add("act", string(c.Facts.Decision.Action))
	add("externalId", f.ID)
	if f.Technique != "" {
		add("cs1Label", "MITRE ATT&CK technique")
		add("cs1", f.Technique)
	}
	if c.Facts.Decision.ID != "" {
		add("cs2Label", "decision")
		add("cs2", c.Facts.Decision.ID)
	}
	add("msg", cut(text, maxText))
	return strings.Join(head, "|") + "|" + strings.Join(ext, " ")
}

// addresses go where CEF has a place for them: IPv6 has none of its own.
func addresses(add func(key, value string), src, dst string) {
	for _, x := range []struct{ text, v4, v6, label string }{
		{src, "src", "c6a2", "Source IPv6 Address"}, {dst, "dst", "c6a3", "Destination IPv6 Address"},
	} {
		a, err := netip.ParseAddr(x.text)
		switch {
		case err != nil:
		case a.Is4():
			add(x.v4, x.text)
		default:
			add(x.v6+"Label", x.label)
			add(x.v6, x.text)
		}
	}
}
