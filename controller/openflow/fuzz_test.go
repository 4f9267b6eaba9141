package openflow

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode gives every decoder the same bytes. None may panic, and what one
// accepts of a flow must survive being encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, flow := range sampleFlows() {
		f.Add(asStats(&flow))
		f.Add(flow.Match.append(nil))
		f.Add(flow.Instructions.append(nil))
	}
	for _, g := range sampleGroups() {
		f.Add(asGroupDesc(&g))
	}
	f.Add(make([]byte, portLen))
	f.Add([]byte{0, 24, 0, 14, 0, 0, 0, 5, 0, 1, 0, 16, 0, 0, 0, 100, 0, 0, 0, 10, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		stats, err := decodeFlowStats(b)
		for i := range stats {
			again, err := decodeFlowStats(asStats(&stats[i].Flow))
			if err != nil || len(again) != 1 || again[0].Key() != stats[i].Key() || again[0].Instructions.Key() != stats[i].Instructions.Key() {
				t.Fatalf("%s did not survive: %v", stats[i].Flow.String(), err)
			}
			_ = stats[i].Flow.String()
		}
		check := func(err error) {
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatalf("a decoding error that does not say so: %v", err)
			}
		}
		check(err)
		if m, _, err := decodeMatch(b); err == nil {
			back, _, err := decodeMatch(m.append(nil))
			if err != nil || back.Key() != m.Key() {
				t.Fatalf("match %s became %s, %v", m, back, err)
			}
		}
		_, err = decodeInstructions(b)
		check(err)
		groups, err := decodeGroups(b)
		check(err)
		for i := range groups {
			again, err := decodeGroups(asGroupDesc(&groups[i]))
			if err != nil || len(again) != 1 || again[0].Key() != groups[i].Key() {
				t.Fatalf("%s did not survive: %v", groups[i].String(), err)
			}
		}
		_, err = decodeGroupStats(b)
		check(err)
		_, err = DecodePacketIn(Message{Type: TypePacketIn, Body: b})
		check(err)
		_, err = decodePorts(b)
		check(err)
		_, err = decodeMeterConfigs(b)
		check(err)
		_, err = decodeMeterStats(b)
		check(err)
		_, err = decodeMeterFeatures(b)
		check(err)
		_, err = decodeAggregate(b)
		check(err)
		_, _, err = decodeBundleControl(b)
		check(err)
		_, err = decodeError(Message{Body: b})
		check(err)
		_, err = decodeFeatures(Message{Type: TypeFeaturesReply, Body: b})
		check(err)
		_, _, err = decodeRole(Message{Type: TypeRoleReply, Body: b})
		check(err)
		_, err = DecodeRoleStatus(Message{Type: TypeRoleStatus, Body: b})
		check(err)
		_, err = DecodePortStatus(Message{Type: TypePortStatus, Body: b})
		check(err)
		_, err = DecodeFlowRemoved(Message{Type: TypeFlowRemoved, Body: b})
		check(err)
		_, _, err = DecodeFlowUpdates(Message{Type: TypeMultipartReply, Body: b})
		check(err)
	})
}

// FuzzReadMessage reads a stream of messages until it ends.
func FuzzReadMessage(f *testing.F) {
	f.Add(appendHello(nil, 1))
	f.Add([]byte{5, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{5, 0, 0xff, 0xff, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			before := r.Len()
			m, err := readMessage(r, 0)
			if err != nil {
				return
			}
			if r.Len() >= before || len(m.Body) > maxMessage {
				t.Fatal("no progress")
			}
			if m.Type == TypeHello {
				_ = checkHello(m)
			}
		}
	})
}
