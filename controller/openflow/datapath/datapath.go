// Package datapath asks a local ovs-vswitchd what its datapath carries:
// megaflows and tracked connections. OpenFlow and OVSDB do not tell (before
// the CT_Zone limits of Open vSwitch 3.3, OVSDB could not bound a zone
// either), so this speaks the JSON-RPC of the daemon's control socket, as
// ovs-appctl does (ovs-vswitchd(8), "RUNTIME MANAGEMENT COMMANDS"). It is for
// observation and limits; nothing that decides about packets depends on it,
// and for a remote switch it is simply absent.
package datapath

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxReply bounds an answer; a switch with a thousand ports stays well
	// below.
	maxReply = 4 << 20
	// callTimeout bounds a call whose context has no deadline. The commands
	// used here are cheap, but the daemon answers between its other work.
	callTimeout = 2 * time.Second
)

// Local is the ovs-vswitchd whose run directory is Dir.
type Local struct{ Dir string }

// CallError is a command that ovs-vswitchd refused.
type CallError struct{ Method, Reason string }

func (e *CallError) Error() string {
	return fmt.Sprintf("ovs-vswitchd: %s: %s", e.Method, e.Reason)
}

// socket finds the control socket, which bears the daemon's process ID unless
// it was told otherwise. It is looked for on every call: a restarted daemon
// has another one.
func (l Local) socket() (string, error) {
	pid, err := os.ReadFile(filepath.Join(l.Dir, "ovs-vswitchd.pid"))
	if err == nil {
		path := filepath.Join(l.Dir, "ovs-vswitchd."+strings.TrimSpace(string(pid))+".ctl")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path := filepath.Join(l.Dir, "ovs-vswitchd.ctl")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("control socket of ovs-vswitchd: %w", err)
	}
	return path, nil
}

// Call runs one command of ovs-vswitchd and returns what it prints. The error
// is a *CallError if the daemon refused.
func (l Local) Call(ctx context.Context, method string, args ...string) (string, error) {
	path, err := l.socket()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return "", fmt.Errorf("ask ovs-vswitchd: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("ask ovs-vswitchd: %w", err)
	}
	// An early end of the context ends the wait as well.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if args == nil {
		args = []string{} // null is no list of parameters
	}
	request, err := json.Marshal(map[string]any{"method": method, "params": args, "id": 0})
	if err != nil {
		return "", fmt.Errorf("ask ovs-vswitchd %s: %w", method, err)
	}
	if _, err := conn.Write(request); err != nil {
		return "", fmt.Errorf("ask ovs-vswitchd %s: %w", method, err)
	}
	text, err := decodeReply(conn)
	var refused *CallError
	if errors.As(err, &refused) {
		refused.Method = method
		return "", refused
	}
	if ctx.Err() != nil {
		err = ctx.Err() // the reason why reading failed
	}
	if err != nil {
		return "", fmt.Errorf("answer of ovs-vswitchd to %s: %w", method, err)
	}
	return text, nil
}

var errTooLong = fmt.Errorf("longer than %d bytes", maxReply)

// decodeReply reads one JSON-RPC 1.0 reply.
func decodeReply(r io.Reader) (string, error) {
	limited := &io.LimitedReader{R: r, N: maxReply}
	var reply struct {
		Result *string         `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.NewDecoder(limited).Decode(&reply); err != nil {
		if limited.N <= 0 {
			return "", errTooLong
		}
		return "", err
	}
	if len(reply.Error) > 0 && !bytes.Equal(reply.Error, []byte("null")) {
		var reason string
		if json.Unmarshal(reply.Error, &reason) != nil {
			reason = string(reply.Error)
		}
		return "", &CallError{Reason: strings.TrimSpace(reason)}
	}
	if reply.Result == nil {
		return "", errors.New("neither a result nor an error")
	}
	return *reply.Result, nil
}
