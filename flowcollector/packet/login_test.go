package packet_test

import (
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// said holds beginnings of what services say, and what it means.
func said() map[string]flow.Login {
	smb := func(command, flags byte, status string) string {
		return "\x00\x00\x00\x48\xfeSMB\x40\x00\x00\x00" + status + string([]byte{command, 0, 1, 0, flags, 0, 0, 0})
	}
	return map[string]flow.Login{
		"":                                     flow.LoginUnknown,
		"SSH-2.0-OpenSSH_9.2p1\r\n":            flow.LoginGreeting,
		"RFB 003.008\n":                        flow.LoginGreeting,
		"HTTP/1.1 401 Unauthorized\r\nContent": flow.LoginRefused,
		"HTTP/1.0 403 Forbidden\r\n":           flow.LoginRefused,
		"HTTP/1.1 200 OK\r\n":                  flow.LoginAnswered,
		"HTTP/1.1 303 See Other\r\n":           flow.LoginAnswered,
		"HTTP/1.1 100 Continue\r\n":            flow.LoginUnknown,
		"HTTP/1.1 4":                           flow.LoginUnknown,
		"POST /login HTTP/1.1\r\n":             flow.LoginUnknown,
		"RTSP/1.0 401 Unauthorized\r\n":        flow.LoginRefused,
		"530 Login incorrect.\r\n":             flow.LoginRefused,
		"535 5.7.8 Authentication failed\r\n":  flow.LoginRefused,
		"230 User logged in\r\n":               flow.LoginAnswered,
		"220 ftp ready\r\n":                    flow.LoginUnknown,
		"-ERR [AUTH] Invalid login\r\n":        flow.LoginRefused,
		"-WRONGPASS invalid username":          flow.LoginRefused,
		"\r\nLogin incorrect\r\nlogin: ":       flow.LoginRefused,
		smb(1, 1, "\x6d\x00\x00\xc0"):          flow.LoginRefused,
		smb(1, 1, "\x16\x00\x00\xc0"):          flow.LoginUnknown, // more is needed
		smb(1, 1, "\x00\x00\x00\x00"):          flow.LoginAnswered,
		smb(1, 0, "\x00\x00\x00\x00"):          flow.LoginUnknown, // the client's
		smb(3, 1, "\x6d\x00\x00\xc0"):          flow.LoginUnknown, // of another command
		"\x48\x00\x00\x02\xff\x15\x04#28000":   flow.LoginRefused, // MySQL 1045
		"\x48\x00\x00\x02\xff\x16\x04#42000":   flow.LoginUnknown,
		"\x07\x00\x00\x02\x00\x00\x00\x02\x00": flow.LoginUnknown,
	}
}

// segment puts a payload into a TCP segment with options.
func segment(t testing.TB, payload string) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 0, 0, 2}, DstIP: []byte{10, 0, 0, 9}}
	tcp := &layers.TCP{SrcPort: 8080, DstPort: 40_000, PSH: true, ACK: true,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLogin(t *testing.T) {
	for payload, want := range said() {
		frame := segment(t, payload)
		for cut := range len(payload) + 1 {
			var r flow.Record
			if err := packet.Parse(frame[:len(frame)-cut], &r); err != nil {
				t.Fatalf("%q less %d: %v", payload, cut, err)
			}
			if r.Login != want && (cut == 0 || r.Login != flow.LoginUnknown) {
				t.Errorf("%q less %d: %d, want %d", payload, cut, r.Login, want)
			}
		}
	}
}
