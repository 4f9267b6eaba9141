package replay

import (
	"encoding/binary"
	"fmt"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// export is a protocol of flow telemetry.
type export uint8

const (
	exportNone export = iota
	exportSFlow
	exportNetFlow // versions 5 and 9, and IPFIX
)

// Registered and customary ports of collectors.
const (
	portSFlow    = 6343
	portIPFIX    = 4739
	portNetFlow  = 2055
	portNetFlow2 = 9995
	portNetFlow3 = 9996
)

// exports decodes the export datagrams of one capture.
type exports struct {
	sflow   *sflow.Decoder
	netflow *netflow.Decoder
}

// newExports returns decoders that behave as the live collector's; unknown is
// called for every data set whose template the capture has not shown.
func newExports(skipEgress bool, unknown func()) *exports {
	return &exports{
		sflow: sflow.NewDecoder(sflow.Config{}),
		netflow: netflow.NewDecoder(netflow.Config{
			SkipEgress: skipEgress,
			Unknown:    func(flow.Exporter, uint16) { unknown() },
		}),
	}
}

func (e *exports) decode(kind export, d *packet.Datagram, at int64, batch []flow.Record) ([]flow.Record, error) {
	var err error
	if kind == exportSFlow {
		batch, err = e.sflow.Decode(batch, d.Payload, at, d.Src.Addr())
	} else {
		batch, err = e.netflow.Decode(batch, d.Payload, at, d.Src)
	}
	if err != nil {
		return batch, fmt.Errorf("export datagram from %s: %w", d.Src, err)
	}
	return batch, nil
}

// sniff tells which export protocol a UDP payload is. A datagram is believed when
// its lengths add up to the last byte, which no other traffic does by chance. On
// a collector's port the version is enough, so that broken datagrams are counted
// as such and not mistaken for traffic.
func sniff(b []byte, port uint16) export {
	if len(b) < 4 {
		return exportNone
	}
	switch version := binary.BigEndian.Uint16(b); version {
	case 0:
		if binary.BigEndian.Uint16(b[2:]) == 5 && (port == portSFlow || isSFlow(b)) {
			return exportSFlow
		}
	case 5, 9, 10:
		if isCollector(port) || isNetFlow(version, b) {
			return exportNetFlow
		}
	}
	return exportNone
}

func isCollector(port uint16) bool {
	switch port {
	case portIPFIX, portNetFlow, portNetFlow2, portNetFlow3:
		return true
	}
	return false
}

// isSFlow walks the samples of an sFlow version 5 datagram.
func isSFlow(b []byte) bool {
	const headerIPv4, headerIPv6 = 28, 40
	if len(b) < headerIPv4 {
		return false
	}
	header := headerIPv4
	switch binary.BigEndian.Uint32(b[4:]) {
	case 1:
	case 2:
		header = headerIPv6
	default:
		return false
	}
	if len(b) < header {
		return false
	}
	samples := binary.BigEndian.Uint32(b[header-4:])
	b = b[header:]
	for range samples {
		if len(b) < 8 {
			return false
		}
		n := uint64(binary.BigEndian.Uint32(b[4:]))
		if n > uint64(len(b)-8) {
			return false
		}
		b = b[8+n:]
	}
	return len(b) == 0
}

// isNetFlow walks the sets of a NetFlow version 9 or IPFIX datagram, or checks
// the size of a version 5 one.
func isNetFlow(version uint16, b []byte) bool {
	const headerV5, recordV5, maxV5 = 24, 48, 30
	header := 16
	switch version {
	case 5:
		count := int(binary.BigEndian.Uint16(b[2:]))
		return count > 0 && count <= maxV5 && len(b) == headerV5+count*recordV5
	case 9:
		header = 20
	case 10:
		if int(binary.BigEndian.Uint16(b[2:])) != len(b) {
			return false
		}
	}
	if len(b) <= header {
		return false
	}
	for b = b[header:]; len(b) > 0; {
		if len(b) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) || !isSet(version, binary.BigEndian.Uint16(b)) {
			return false
		}
		b = b[n:]
	}
	return true
}

// isSet reports whether a set ID exists (RFC 7011, section 3.3.2; RFC 3954,
// section 5).
func isSet(version, id uint16) bool {
	if id >= 256 {
		return true
	}
	if version == 10 {
		return id == 2 || id == 3
	}
	return id <= 1
}
