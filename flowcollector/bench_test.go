package flowcollector_test

import (
	"encoding/binary"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// perRecord runs decode, which returns a number of records, over ds again and
// again and reports the time per record.
func perRecord(b *testing.B, ds [][]byte, decode func([]byte) int) {
	b.ReportAllocs()
	n, i := 0, 0
	for b.Loop() {
		n += decode(ds[i])
		if i++; i == len(ds) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}

func ourSFlow(b *testing.B) func([]byte) int {
	d, rs := sflow.NewDecoder(sflow.Config{}), []flow.Record(nil)
	from, at := exporterAddr().Addr(), received()
	return func(dg []byte) int {
		var err error
		if rs, err = d.Decode(rs[:0], dg, at, from); err != nil {
			b.Fatal(err)
		}
		return len(rs)
	}
}

func ourIPFIX(b *testing.B, templates [][]byte) func([]byte) int {
	d, rs := netflow.NewDecoder(netflow.Config{}), []flow.Record(nil)
	from, at := exporterAddr(), received()
	decode := func(dg []byte) int {
		var err error
		if rs, err = d.Decode(rs[:0], dg, at, from); err != nil {
			b.Fatal(err)
		}
		return len(rs)
	}
	for _, dg := range templates {
		decode(dg)
	}
	return decode
}

func theirIPFIX(b *testing.B, templates [][]byte) func([]byte) int {
	o := newOracle(b)
	for _, dg := range templates {
		o.ipfix(b, dg)
	}
	return func(dg []byte) int {
		ms := o.ipfix(b, dg)
		n := len(ms)
		o.producer.Commit(ms)
		return n
	}
}

// BenchmarkDecode compares us with goflow2 v2.2.6 (decoder and producer, which
// together do what our decoders do). Nanoseconds per record on one core of a
// busy 2-core AMD EPYC machine, median (lowest to highest) of 5 runs:
//
//	             platelet        goflow2
//	sflow         78 (65-113)     2564 (2262-3530)
//	ipfix-ovs    254 (184-304)   12804 (9851-16193)   one record of 46-56 fields per datagram
//	ipfix-dense   91 (74-141)     2777 (2300-3380)    24 records of 12 fields per datagram
func BenchmarkDecode(b *testing.B) {
	sampled := datagrams(b, "ovs-sflow-s1-p5.pcap")
	b.Run("sflow/platelet", func(b *testing.B) { perRecord(b, sampled, ourSFlow(b)) })
	b.Run("sflow/goflow2", func(b *testing.B) {
		o := newOracle(b)
		perRecord(b, sampled, func(dg []byte) int {
			ms := o.sflow(b, dg)
			n := len(ms)
			o.producer.Commit(ms)
			return n
		})
	})
	templates, data := split(datagrams(b, "ovs-ipfix-bridge-s1-t1.pcap"))
	b.Run("ipfix-ovs/platelet", func(b *testing.B) { perRecord(b, data, ourIPFIX(b, templates)) })
	b.Run("ipfix-ovs/goflow2", func(b *testing.B) { perRecord(b, data, theirIPFIX(b, templates)) })
	templates, data = denseIPFIX()
	b.Run("ipfix-dense/platelet", func(b *testing.B) { perRecord(b, data, ourIPFIX(b, templates)) })
	b.Run("ipfix-dense/goflow2", func(b *testing.B) { perRecord(b, data, theirIPFIX(b, templates)) })
}

// split separates the datagrams that hold template or options sets from those
// that hold data.
func split(ds [][]byte) (templates, data [][]byte) {
	const setAt, firstDataSet, optionsSet = 16, 256, 462
	for _, d := range ds {
		if id := binary.BigEndian.Uint16(d[setAt:]); id < firstDataSet || id == optionsSet {
			templates = append(templates, d)
		} else {
			data = append(data, d)
		}
	}
	return templates, data
}

// denseIPFIX returns datagrams as routers send them: 24 records of 12 fields.
func denseIPFIX() (templates, data [][]byte) {
	const perDatagram, distinct = 24, 256
	be := binary.BigEndian
	fields := [][2]uint16{
		{8, 4}, {12, 4}, {7, 2}, {11, 2}, {4, 1}, {6, 2}, {10, 4}, {14, 4}, {1, 8}, {2, 8}, {152, 8}, {153, 8},
	}
	set := []byte{1, 0, 0, byte(len(fields))}
	for _, f := range fields {
		set = be.AppendUint16(set, f[0])
		set = be.AppendUint16(set, f[1])
	}
	templates = [][]byte{ipfixMessage(0, 1, ipfixSet{2, set})}
	for i := range uint32(distinct) {
		var body []byte
		for j := range uint32(perDatagram) {
			n := i*perDatagram + j
			body = be.AppendUint32(body, 10<<24|n)
			body = be.AppendUint32(body, 10<<24|1<<16|n%251)
			body = be.AppendUint16(body, uint16(1024+n))
			body = be.AppendUint16(body, 443)
			body = append(body, flow.ProtoTCP, 0, flow.SYN|flow.ACK|flow.PSH)
			body = be.AppendUint32(body, 12)
			body = be.AppendUint32(body, 14)
			body = be.AppendUint64(body, 3000)
			body = be.AppendUint64(body, 3)
			body = be.AppendUint64(body, 1795389497000)
			body = be.AppendUint64(body, 1795389497250)
		}
		data = append(data, ipfixMessage(i*perDatagram, 1, ipfixSet{256, body}))
	}
	return templates, data
}

type ipfixSet struct {
	id   uint16
	body []byte
}

// ipfixMessage builds a message of RFC 7011.
func ipfixMessage(seq, domain uint32, sets ...ipfixSet) []byte {
	be := binary.BigEndian
	b := []byte{0, 10, 0, 0}
	b = be.AppendUint32(b, 1795389497)
	b = be.AppendUint32(b, seq)
	b = be.AppendUint32(b, domain)
	for _, s := range sets {
		b = be.AppendUint16(b, s.id)
		b = be.AppendUint16(b, uint16(4+len(s.body)))
		b = append(b, s.body...)
	}
	be.PutUint16(b[2:], uint16(len(b)))
	return b
}
