package replay

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// capture is a reader of pcap or pcapng.
type capture interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// pcapDecoder reads a capture. Datagrams of sFlow, IPFIX and NetFlow become the
// records that they carry, every other packet becomes a record of its own. It is
// a decoder.
type pcapDecoder struct {
	name     string
	packets  capture
	linkType layers.LinkType // of a pcap; in a pcapng each packet has its own
	exports  *exports
	position int64
	last     int64 // time of the last packet, for those that have none
	done     bool
}

func newPcapDecoder(name string, r io.Reader, format Format, exports *exports) (*pcapDecoder, error) {
	d := &pcapDecoder{name: name, exports: exports}
	if format == FormatPcapng {
		ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return nil, fmt.Errorf("pcapng header: %w", err)
		}
		d.packets = ng
		return d, nil
	}
	p, err := pcapgo.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("pcap header: %w", err)
	}
	// The upper bits of the field are not the link type but the length of
	// the FCS (draft-ietf-opsawg-pcap, section 4).
	d.packets, d.linkType = p, p.LinkType()&0xffff
	if !knownLink(d.linkType) {
		return nil, &linkError{d.linkType}
	}
	return d, nil
}

func (d *pcapDecoder) next(batch []flow.Record) ([]flow.Record, error) {
	if d.done {
		return batch, io.EOF
	}
	data, info, err := d.packets.ZeroCopyReadPacketData()
	if errors.Is(err, io.EOF) {
		return batch, io.EOF
	}
	d.position++
	if err != nil {
		// Where the next packet would begin is not known any more.
		d.done = true
		return batch, d.fault(fmt.Errorf("capture broken off: %w", err))
	}
	link := d.linkType
	if len(info.AncillaryData) == 1 {
		if l, ok := info.AncillaryData[0].(layers.LinkType); ok {
			link = l
		}
	}
	batch, err = d.packet(link, data, &info, batch)
	if err != nil {
		return batch, d.fault(err)
	}
	return batch, nil
}

func (d *pcapDecoder) fault(err error) *Fault {
	return &Fault{Input: d.name, Position: d.position, Err: err}
}

// packet appends what one captured packet tells.
func (d *pcapDecoder) packet(link layers.LinkType, data []byte, info *gopacket.CaptureInfo, batch []flow.Record) ([]flow.Record, error) {
	at := d.time(info.Timestamp)
	f, err := openFrame(link, data)
	if err != nil {
		return batch, err
	}
	if dg, ok := packet.UDP(f.etherType, f.payload); ok {
		if kind := sniff(dg.Payload, dg.Dst.Port()); kind != exportNone {
			return d.exports.decode(kind, &dg, at, batch)
		}
	}
	r := flow.Record{
		Time: at, Source: flow.SourcePacket, Rate: 1, Packets: 1,
		Bytes: uint64(max(info.Length, len(data))),
	}
	// What an address can be read from is evidence, even if it is broken
	// further on or cut by the capture.
	if err := f.parse(&r); err != nil && !r.Src.IsValid() {
		return batch, err
	}
	return append(batch, r), nil
}

// time returns the packet's time in Unix nanoseconds. Packets may have none
// (simple packet blocks) or one that no clock shows.
func (d *pcapDecoder) time(t time.Time) int64 {
	if s := t.Unix(); s >= 0 && s <= maxSeconds {
		d.last = t.UnixNano()
	}
	return d.last
}
