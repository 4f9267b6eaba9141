package netflow_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// fields is a template: information element and length, in turn. An element
// above 0x8000 has an enterprise number behind it.
type fields []uint16

func (f fields) encode(b []byte) []byte {
	for i := 0; i < len(f); i += 2 {
		b = binary.BigEndian.AppendUint16(b, f[i])
		b = binary.BigEndian.AppendUint16(b, f[i+1])
		if f[i] >= 0x8000 {
			b = binary.BigEndian.AppendUint32(b, 6876) // VMware
		}
	}
	return b
}

func words(vs ...uint16) (b []byte) {
	for _, v := range vs {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func template(id uint16, f fields) []byte {
	return f.encode(words(id, uint16(len(f)/2)))
}

func set(id uint16, bodies ...[]byte) []byte {
	var body []byte
	for _, b := range bodies {
		body = append(body, b...)
	}
	return append(words(id, uint16(4+len(body))), body...)
}

// ipfix builds a message of RFC 7011.
func ipfix(domain, seq uint32, sets ...[]byte) []byte {
	b := words(10, 0)
	b = binary.BigEndian.AppendUint32(b, 1795389497)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, domain)
	for _, s := range sets {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// v9 builds an export packet of RFC 3954.
func v9(source, seq uint32, sets ...[]byte) []byte {
	b := words(9, uint16(len(sets)))
	b = binary.BigEndian.AppendUint32(b, 60000)
	b = binary.BigEndian.AppendUint32(b, 1795389497)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, source)
	for _, s := range sets {
		b = append(b, s...)
	}
	return b
}

func sender(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func home() netip.AddrPort { return sender("192.0.2.1:40000") }

const now = int64(1795389497e9)

// decode decodes datagrams that have to be correct.
func decode(t *testing.T, d *netflow.Decoder, ds ...[]byte) (rs []flow.Record) {
	t.Helper()
	for i, b := range ds {
		var err error
		if rs, err = d.Decode(rs, b, now, home()); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	return rs
}

// wantKind checks that err is an Error of this kind.
func wantKind(t *testing.T, err error, kind string) {
	t.Helper()
	var e *netflow.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error %v, want one of kind %q", err, kind)
	}
}

// within fails the test when f takes longer than a hostile datagram may.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("decoder does not return")
	}
}
