package packet

import (
	"bytes"
	"encoding/binary"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// login reads what a segment says about a login. Only beginnings of messages
// are known: a segment from the middle of one says nothing.
func login(p []byte) flow.Login {
	switch {
	case bytes.HasPrefix(p, []byte("SSH-")), bytes.HasPrefix(p, []byte("RFB 00")):
		return flow.LoginGreeting // RFC 4253, section 4.2; RFC 6143, section 7.1.1
	case bytes.HasPrefix(p, []byte("HTTP/1.")), bytes.HasPrefix(p, []byte("RTSP/1.")):
		return loginHTTP(p)
	case len(p) >= 4 && p[3] == ' ' && isDigit(p[0]) && isDigit(p[1]) && isDigit(p[2]):
		return loginReply(p)
	case len(p) >= smbStatusAt+4 && bytes.HasPrefix(p[4:], []byte("\xfeSMB")):
		return loginSMB(p)
	case len(p) >= mysqlCodeAt+2 && p[3] > 0 && p[4] == 0xff && int(p[0])|int(p[1])<<8|int(p[2])<<16 >= 3:
		if binary.LittleEndian.Uint16(p[mysqlCodeAt:]) == mysqlDenied {
			return flow.LoginRefused
		}
	case bytes.HasPrefix(p, []byte("-ERR invalid password")), bytes.HasPrefix(p, []byte("-WRONGPASS ")),
		bytes.HasPrefix(p, []byte("-ERR [AUTH]")), // RFC 3206
		bytes.HasPrefix(p, []byte("Login incorrect")), bytes.HasPrefix(p, []byte("\r\nLogin incorrect")):
		return flow.LoginRefused
	}
	return flow.LoginUnknown
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// loginHTTP reads the status of a response (RFC 9112, section 4; RFC 2326,
// section 7.1): 401 and 407 ask for other credentials, 403 says that none help.
// 1xx is no answer yet.
func loginHTTP(p []byte) flow.Login {
	const at = len("HTTP/1.1 ")
	if len(p) < at+3 || p[at-1] != ' ' {
		return flow.LoginUnknown
	}
	switch status := string(p[at : at+3]); {
	case status == "401", status == "403", status == "407":
		return flow.LoginRefused
	case status >= "200" && status < "600":
		return flow.LoginAnswered
	}
	return flow.LoginUnknown
}

// loginReply reads a reply of FTP (RFC 959, section 4.2) or SMTP (RFC 4954,
// section 6).
func loginReply(p []byte) flow.Login {
	switch string(p[:3]) {
	case "530", "535":
		return flow.LoginRefused
	case "230", "235":
		return flow.LoginAnswered
	}
	return flow.LoginUnknown
}

// Where MS-SMB2, section 2.2.1, has the status and the command of a message in
// a NetBIOS frame of four bytes.
const (
	smbStatusAt     = 4 + 8
	smbCommandAt    = 4 + 12
	smbFlagsAt      = 4 + 16
	smbSessionSetup = 1
	// MS-ERREF, section 2.3.1.
	smbLogonFailure, smbAccountLocked = 0xc000006d, 0xc0000234
)

func loginSMB(p []byte) flow.Login {
	if len(p) < smbFlagsAt+1 || p[smbFlagsAt]&1 == 0 || binary.LittleEndian.Uint16(p[smbCommandAt:]) != smbSessionSetup {
		return flow.LoginUnknown
	}
	switch binary.LittleEndian.Uint32(p[smbStatusAt:]) {
	case smbLogonFailure, smbAccountLocked:
		return flow.LoginRefused
	case 0:
		return flow.LoginAnswered
	}
	return flow.LoginUnknown // more messages are needed
}

// MySQL's error packet (ERR_Packet): length, sequence, 0xff, code.
const (
	mysqlCodeAt = 5
	mysqlDenied = 1045 // ER_ACCESS_DENIED_ERROR
)
