package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Barrier returns when the switch has processed everything sent before
// (section 7.3.7). It does not prove that the datapath enforces it yet: on
// the userspace datapath packets were seen to pass for 11 ms after it.
func (c *Conn) Barrier(ctx context.Context) error {
	_, err := c.callOne(ctx, TypeBarrierReply, func(b []byte, xid uint32) []byte {
		return appendMessage(b, TypeBarrierRequest, xid, nil)
	})
	return err
}

// SetAsync chooses which asynchronous messages this connection gets
// (section 7.3.10).
func (c *Conn) SetAsync(ctx context.Context, a Async) error {
	errs, err := c.sendChecked(ctx, 1, func(b []byte, _ int, xid uint32) []byte {
		return appendMessage(b, TypeSetAsync, xid, a.body())
	})
	if err != nil {
		return err
	}
	return joined(errs)
}

// nxtSetControllerID is NXT_SET_CONTROLLER_ID (nicira-ext).
const nxtSetControllerID uint32 = 20

// SetControllerID gives this connection an ID: of the packets that flows send
// to controllers (see Controller) it gets those for its ID and no others. A
// connection starts with ID 0, which is everybody's.
func (c *Conn) SetControllerID(ctx context.Context, id uint16) error {
	body := binary.BigEndian.AppendUint32(nil, experimenterNicira)
	body = binary.BigEndian.AppendUint32(body, nxtSetControllerID)
	body = binary.BigEndian.AppendUint16(zeros(body, 6), id)
	errs, err := c.sendChecked(ctx, 1, func(b []byte, _ int, xid uint32) []byte {
		return appendMessage(b, TypeExperimenter, xid, body)
	})
	if err == nil {
		err = joined(errs)
	}
	if err != nil {
		return fmt.Errorf("take controller ID %d: %w", id, err)
	}
	return nil
}

// SetConfig sets how much of a packet the switch sends to the controller
// (section 7.3.2); fragments are handled normally.
func (c *Conn) SetConfig(ctx context.Context, missSendLen uint16) error {
	errs, err := c.sendChecked(ctx, 1, func(b []byte, _ int, xid uint32) []byte {
		return appendMessage(b, TypeSetConfig, xid, []byte{0, 0, byte(missSendLen >> 8), byte(missSendLen)})
	})
	if err != nil {
		return err
	}
	return joined(errs)
}

// Monitor asks for an update whenever a flow that one of the filters selects
// is added, changed or removed by anybody (section 7.3.5.17); their cookies
// are ignored. The updates arrive on Async, see DecodeFlowUpdates. Monitors
// live as long as the connection; call it once.
func (c *Conn) Monitor(ctx context.Context, filters ...FlowFilter) error {
	errs, err := c.sendChecked(ctx, len(filters), func(b []byte, i int, xid uint32) []byte {
		return appendMultipart(b, xid, multipartFlowMonitor, monitorBody(uint32(i)+1, filters[i]))
	})
	if err != nil {
		return err
	}
	return joined(errs)
}

// multipart sends requests in one go and hands the bodies of all replies to
// add, in order.
func (c *Conn) multipart(ctx context.Context, t multipartType, bodies [][]byte, add func([]byte) error) error {
	ctx, cancel := withDeadline(ctx, c.timeout)
	defer cancel()
	calls := make([]*call, len(bodies))
	for i := range bodies {
		k, err := c.begin(TypeMultipartReply)
		if err != nil {
			return err
		}
		calls[i] = k
	}
	err := c.write(ctx, func(w *messageWriter) {
		for i, k := range calls {
			w.add(func(b []byte) []byte { return appendMultipart(b, k.xid, t, bodies[i]) })
		}
	})
	for _, k := range calls {
		if err != nil {
			err = c.abandon(k, err)
			continue
		}
		var replies []Message
		if replies, err = c.wait(ctx, k); err != nil {
			continue
		}
		err = eachPart(replies, t, add)
	}
	return err
}

func eachPart(replies []Message, want multipartType, add func([]byte) error) error {
	for _, m := range replies {
		t, _, body, err := parseMultipart(m.Body)
		if err != nil {
			return err
		}
		if t != want {
			return malformed("multipart reply of type %d, not %d", t, want)
		}
		if err := add(body); err != nil {
			return err
		}
	}
	return nil
}

// decodeAll returns an add function that decodes each part into out.
func decodeAll[T any](out *[]T, decode func([]byte) ([]T, error)) func([]byte) error {
	return func(b []byte) error {
		part, err := decode(b)
		*out = append(*out, part...)
		return err
	}
}

// Flows returns the flows that any of the filters selects, one request for
// each, all sent at once (section 7.3.5.2).
func (c *Conn) Flows(ctx context.Context, filters ...FlowFilter) ([]FlowStats, error) {
	bodies := make([][]byte, len(filters))
	for i, f := range filters {
		bodies[i] = f.appendStatsRequest(nil)
	}
	var out []FlowStats
	if err := c.multipart(ctx, multipartFlow, bodies, decodeAll(&out, decodeFlowStats)); err != nil {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	return out, nil
}

// Aggregate sums up the flows that the filters select (section 7.3.5.3); a
// flow that two filters select counts twice.
func (c *Conn) Aggregate(ctx context.Context, filters ...FlowFilter) (Aggregate, error) {
	bodies := make([][]byte, len(filters))
	for i, f := range filters {
		bodies[i] = f.appendStatsRequest(nil)
	}
	var sum Aggregate
	err := c.multipart(ctx, multipartAggregate, bodies, func(b []byte) error {
		a, err := decodeAggregate(b)
		sum.Packets, sum.Bytes, sum.Flows = sum.Packets+a.Packets, sum.Bytes+a.Bytes, sum.Flows+a.Flows
		return err
	})
	if err != nil {
		return Aggregate{}, fmt.Errorf("read aggregate: %w", err)
	}
	return sum, nil
}

// Ports returns the switch's ports (section 7.3.5.7).
func (c *Conn) Ports(ctx context.Context) ([]Port, error) {
	var out []Port
	if err := c.multipart(ctx, multipartPortDesc, [][]byte{nil}, decodeAll(&out, decodePorts)); err != nil {
		return nil, fmt.Errorf("read ports: %w", err)
	}
	return out, nil
}

// meterBody encodes struct ofp_meter_multipart_request.
func meterBody(id uint32) []byte { return zeros(binary.BigEndian.AppendUint32(nil, id), 4) }

// Meters returns the configuration of every meter (section 7.3.5.12).
func (c *Conn) Meters(ctx context.Context) ([]Meter, error) {
	var out []Meter
	if err := c.multipart(ctx, multipartMeterConfig, [][]byte{meterBody(MeterAll)}, decodeAll(&out, decodeMeterConfigs)); err != nil {
		return nil, fmt.Errorf("read meters: %w", err)
	}
	return out, nil
}

// MeterCounters returns what meters have counted (section 7.3.5.11).
func (c *Conn) MeterCounters(ctx context.Context, ids ...uint32) ([]MeterCounters, error) {
	bodies := make([][]byte, len(ids))
	for i, id := range ids {
		bodies[i] = meterBody(id)
	}
	var out []MeterCounters
	if err := c.multipart(ctx, multipartMeter, bodies, decodeAll(&out, decodeMeterStats)); err != nil {
		return nil, fmt.Errorf("read meter counters: %w", err)
	}
	return out, nil
}

// MeterFeatures returns what the switch can do with meters (section
// 7.3.5.13).
func (c *Conn) MeterFeatures(ctx context.Context) (f MeterFeatures, err error) {
	err = c.multipart(ctx, multipartMeterFeatures, [][]byte{nil}, func(b []byte) (err error) {
		f, err = decodeMeterFeatures(b)
		return err
	})
	if err != nil {
		return f, fmt.Errorf("read meter features: %w", err)
	}
	return f, nil
}

// groupBody encodes struct ofp_group_multipart_request.
func groupBody(id uint32) []byte { return zeros(binary.BigEndian.AppendUint32(nil, id), 4) }

// Groups returns every group (section 7.3.5.10).
func (c *Conn) Groups(ctx context.Context) ([]Group, error) {
	var out []Group
	if err := c.multipart(ctx, multipartGroupDesc, [][]byte{nil}, decodeAll(&out, decodeGroups)); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return out, nil
}

// GroupCounters returns what groups have counted (section 7.3.5.9).
func (c *Conn) GroupCounters(ctx context.Context, ids ...uint32) ([]GroupCounters, error) {
	bodies := make([][]byte, len(ids))
	for i, id := range ids {
		bodies[i] = groupBody(id)
	}
	var out []GroupCounters
	if err := c.multipart(ctx, multipartGroup, bodies, decodeAll(&out, decodeGroupStats)); err != nil {
		return nil, fmt.Errorf("read group counters: %w", err)
	}
	return out, nil
}

// PacketOut sends a packet through the switch (section 7.3.6) and waits until
// the switch has taken it.
func (c *Conn) PacketOut(ctx context.Context, p PacketOut) error {
	if err := (&situation{}).checkActions(p.Actions); err != nil {
		return fmt.Errorf("packet-out: %w", err)
	}
	msg, err := appendPacketOut(nil, 0, &p)
	if err != nil {
		return fmt.Errorf("packet-out: %w", err)
	}
	errs, err := c.sendChecked(ctx, 1, func(b []byte, _ int, xid uint32) []byte {
		binary.BigEndian.PutUint32(msg[4:], xid)
		return append(b, msg...)
	})
	if err == nil {
		err = joined(errs)
	}
	if err != nil {
		return fmt.Errorf("packet-out: %w", err)
	}
	return nil
}

// FlushConntrack removes entries of the connection tracker, and returns when
// the switch has done so.
func (c *Conn) FlushConntrack(ctx context.Context, f CTFlush) error {
	if err := f.Validate(); err != nil {
		return err
	}
	requests := f.requests()
	errs, err := c.sendChecked(ctx, len(requests), func(b []byte, i int, xid uint32) []byte {
		return appendCTFlush(b, xid, &requests[i])
	})
	if err == nil {
		err = joined(errs)
	}
	if err != nil {
		return fmt.Errorf("conntrack flush: %w", err)
	}
	return nil
}
