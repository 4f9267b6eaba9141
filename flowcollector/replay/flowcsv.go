package replay

import (
	"fmt"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// flowCSVRequired returns the columns of the flow CSV that have to be there.
func flowCSVRequired() []string {
	return strings.Split("ts,dur,proto,src,sport,dst,dport,state", ",")
}

// flowCSV reads a plain CSV of conversations with Zeek's or Argus's states:
// ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail.
// It is a rowParser.
type flowCSV struct {
	label  labeller
	header columns
}

func (f *flowCSV) row(line []byte, batch []flow.Record) ([]flow.Record, error) {
	text := string(line)
	if f.header.count == 0 {
		header, err := parseHeader(text)
		f.header = header
		return batch, err
	}
	fields := strings.SplitN(text, ",", f.header.count)
	if len(fields) != f.header.count {
		return batch, fmt.Errorf("%d fields where the header has %d", len(fields), f.header.count)
	}
	get := func(name string) string { return f.header.pick(fields, name) }
	c := &conversation{}
	p := rowReader{}
	c.start, c.duration = p.time("ts", get("ts")), p.seconds("dur", get("dur"))
	c.src, c.dst = p.endpoint("src", get("src")), p.endpoint("dst", get("dst"))
	c.srcPort, c.dstPort = p.port("sport", get("sport")), p.port("dport", get("dport"))
	c.sent = volume{p.count("spkts", get("spkts")), p.count("sbytes", get("sbytes"))}
	c.answered = volume{p.count("dpkts", get("dpkts")), p.count("dbytes", get("dbytes"))}
	if p.err != nil {
		return batch, p.err
	}
	c.setProto(get("proto"))
	f.judge(c, get("state"))
	return f.label.finish(c, get("label"), get("detail"), batch), nil
}

func (f *flowCSV) judge(c *conversation, state string) {
	if isZeekState(state) || c.proto == flow.ProtoICMP || c.proto == flow.ProtoICMPv6 || c.etherType == flow.EtherARP {
		c.judge(state, "")
		return
	}
	c.judgement = judgeArgus(c, state, "")
}
