package openflow

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// FuzzMessage takes its input for a message, header and body, and hands it to
// the decoder that its type asks for. None may panic; an error says that the
// message is malformed; what a decoder accepts of flows and groups survives
// being encoded and decoded again. The committed seeds came from a switch.
func FuzzMessage(f *testing.F) {
	for _, flow := range sampleFlows() {
		f.Add(asReply(multipartFlow, asStats(&flow)))
	}
	for _, g := range sampleGroups() {
		f.Add(asReply(multipartGroupDesc, asGroupDesc(&g)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		err := decodeMessage(t, Message{Type: Type(b[1]), Body: b[headerLen:]})
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("a decoding error that does not say so: %v", err)
		}
	})
}

func asReply(t multipartType, body []byte) []byte {
	b := appendMultipart(nil, 1, t, body)
	b[1] = byte(TypeMultipartReply)
	return b
}

func decodeMessage(t *testing.T, m Message) error {
	var err error
	switch m.Type {
	case TypeHello:
		err := checkHello(m)
		if errors.As(err, new(*VersionError)) {
			return nil
		}
		return err
	case TypeError:
		var e *Error
		if e, err = decodeError(m); err == nil {
			_ = e.Error()
		}
	case TypeFeaturesReply:
		_, err = decodeFeatures(m)
	case TypePacketIn:
		_, err = DecodePacketIn(m)
	case TypeFlowRemoved:
		_, err = DecodeFlowRemoved(m)
	case TypePortStatus:
		_, err = DecodePortStatus(m)
	case TypeMultipartReply:
		return decodeReply(t, m)
	case TypeRoleReply:
		_, _, err = decodeRole(m)
	case TypeRoleStatus:
		_, err = DecodeRoleStatus(m)
	case TypeBundleControl:
		_, _, err = decodeBundleControl(m.Body)
	}
	return err
}

func decodeReply(t *testing.T, m Message) error {
	kind, _, body, err := parseMultipart(m.Body)
	if err != nil {
		return err
	}
	switch kind {
	case multipartFlow:
		return survivingFlows(t, body)
	case multipartAggregate:
		_, err = decodeAggregate(body)
	case multipartGroup:
		_, err = decodeGroupStats(body)
	case multipartGroupDesc:
		return survivingGroups(t, body)
	case multipartMeter:
		_, err = decodeMeterStats(body)
	case multipartMeterConfig:
		var meters []Meter
		meters, err = decodeMeterConfigs(body)
		for _, m := range meters {
			_ = m.String()
		}
	case multipartMeterFeatures:
		_, err = decodeMeterFeatures(body)
	case multipartPortDesc:
		_, err = decodePorts(body)
	case multipartFlowMonitor:
		_, _, err = DecodeFlowUpdates(m)
	}
	return err
}

func survivingFlows(t *testing.T, body []byte) error {
	stats, err := decodeFlowStats(body)
	for i := range stats {
		s := &stats[i]
		again, err := decodeFlowStats(asStats(&s.Flow))
		if err != nil || len(again) != 1 || again[0].Key() != s.Key() || again[0].Instructions.Key() != s.Instructions.Key() || again[0].String() != s.String() {
			t.Fatalf("%s did not survive: %v", s, err)
		}
		_ = s.Validate()
	}
	return err
}

func survivingGroups(t *testing.T, body []byte) error {
	groups, err := decodeGroups(body)
	for i := range groups {
		g := &groups[i]
		again, err := decodeGroups(asGroupDesc(g))
		if err != nil || len(again) != 1 || again[0].Key() != g.Key() || again[0].String() != g.String() {
			t.Fatalf("%s did not survive: %v", g, err)
		}
		_ = g.Validate()
	}
	return err
}

// FuzzActions decodes actions, encodes them and decodes them again.
func FuzzActions(f *testing.F) {
	for _, flow := range sampleFlows() {
		f.Add(appendActions(nil, flow.Actions))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		actions, err := decodeActions(b)
		if err != nil {
			return
		}
		wire := appendActions(nil, actions)
		again, err := decodeActions(wire)
		if err != nil || !bytes.Equal(appendActions(nil, again), wire) || actionsText(again) != actionsText(actions) {
			t.Fatalf("%s became %s: %v", actionsText(actions), actionsText(again), err)
		}
		_ = newSituation(nil).checkActions(actions)
	})
}

// FuzzMatch decodes a match, encodes it and decodes it again.
func FuzzMatch(f *testing.F) {
	for _, flow := range sampleFlows() {
		f.Add(flow.Match.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := decodeMatch(b)
		if err != nil {
			return
		}
		again, rest, err := decodeMatch(m.append(nil))
		if err != nil || len(rest) != 0 || !slices.Equal(again, m) || again.Key() != m.Key() || again.String() != m.String() {
			t.Fatalf("match %s became %s, %v", m, again, err)
		}
		_ = m.Validate()
	})
}

// FuzzInstructions decodes instructions, encodes them and decodes them again.
func FuzzInstructions(f *testing.F) {
	for _, flow := range sampleFlows() {
		f.Add(flow.Instructions.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeInstructions(b)
		if err != nil {
			return
		}
		again, err := decodeInstructions(i.append(nil))
		if err != nil || again.Key() != i.Key() || again.String() != i.String() {
			t.Fatalf("%s became %s: %v", &i, &again, err)
		}
		_ = i.check(1, nil)
	})
}

// A message makes us allocate no more than a multiple of what it really holds,
// whatever lengths it claims. The smallest parts cost most: a match field of
// four bytes becomes an OXM.
func TestDecodingIsBoundedByWhatCame(t *testing.T) {
	const size, perByte = 60000, 128
	repeat := func(part ...byte) []byte { return bytes.Repeat(part, size/len(part)) }
	lying := func(decode func([]byte) error) func() error {
		return func() error {
			return decode(append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 100)...))
		}
	}
	flows := func(b []byte) error { _, err := decodeFlowStats(b); return err }
	groups := func(b []byte) error { _, err := decodeGroups(b); return err }
	meters := func(b []byte) error { _, err := decodeMeterConfigs(b); return err }
	for name, decode := range map[string]func() error{
		"lying flows": lying(flows), "lying groups": lying(groups), "lying meters": lying(meters),
		"flows":   func() error { return flows(repeat(asStats(&Flow{})...)) },
		"groups":  func() error { return groups(repeat(0, 8, 0, 0, 0, 0, 0, 1)) },
		"meters":  func() error { return meters(repeat(0, 8, 0, 1, 0, 0, 0, 1)) },
		"fields":  func() error { _, err := decodeOXMs(repeat(0xff, 0xfe, 0, 0)); return err },
		"actions": func() error { _, err := decodeActions(repeat(0, 99, 0, 8, 0, 0, 0, 0)); return err },
		"buckets": func() error {
			_, err := decodeBuckets(repeat(0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
			return err
		},
		"instructions": func() error {
			_, err := decodeInstructions(repeat(0, 77, 0, 8, 0, 0, 0, 0))
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decode()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > size*perByte {
			t.Errorf("%s: %d bytes made us allocate %d", name, size, got)
		}
		if lies := strings.HasPrefix(name, "lying"); (err != nil) != lies {
			t.Errorf("%s: %v", name, err)
		}
	}
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
