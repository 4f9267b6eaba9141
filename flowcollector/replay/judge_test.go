package replay

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// verdicts is a judgement without its control bits.
type verdicts struct{ forward, reverse flow.Signal }

var (
	nothing     = verdicts{}
	established = verdicts{flow.SignalAttempt, flow.SignalAccept}
	rejected    = verdicts{flow.SignalAttempt, flow.SignalRefuse}
	unanswered  = verdicts{flow.SignalAttempt, flow.SignalSilence}
	onlyAnswer  = verdicts{flow.SignalNone, flow.SignalAccept}
	attemptOnly = verdicts{flow.SignalAttempt, flow.SignalNone}
)

func of(j judgement) verdicts { return verdicts{j.forward, j.reverse} }

// The histories are of real logs.
func TestJudgeZeekHistory(t *testing.T) {
	for history, want := range map[string]verdicts{
		"ShADadFf":    established,
		"^hADadFf":    onlyAnswer,  // Zeek saw the SYN+ACK first and flipped the sides
		"ShR":         established, // half-open scan of an open port
		"ShADadR":     established,
		"Sr":          rejected,
		"SrR":         rejected,
		"S":           unanswered,
		"SR":          unanswered,
		"SD":          unanswered,
		"SF":          unanswered,
		"SAD":         nothing,     // one direction: it acknowledges what we do not see
		"SADa":        established, // the capture missed the SYN+ACK
		"SdADaf":      established,
		"Sa":          attemptOnly, // a stray ACK refuses nothing
		"hADdafF":     onlyAnswer,
		"h":           onlyAnswer, // backscatter
		"R":           nothing,
		"F":           nothing,
		"Fr":          {flow.SignalFinish, flow.SignalRefuse},
		"FaR":         nothing,
		"Q":           {flow.SignalProbe, flow.SignalNone},
		"r":           {flow.SignalProbe, flow.SignalNone},
		"DdA":         nothing,
		"dADaf":       nothing,
		"cAdar":       nothing,
		"ShADadCcfR":  established,
		"ShADTadttFf": established,
	} {
		if got := of(judgeZeek(flow.ProtoTCP, "", history, 1, 1)); got != want {
			t.Errorf("%s: %v, want %v", history, got, want)
		}
	}
}

func TestJudgeZeekState(t *testing.T) {
	for _, c := range []struct {
		state          string
		sent, answered uint64
		want           verdicts
	}{
		{"SF", 5, 4, established}, {"S1", 5, 4, established}, {"S2", 5, 4, established}, {"S3", 5, 4, established},
		{"RSTO", 5, 4, established}, {"RSTR", 5, 4, established},
		{"SF", 0, 0, established}, // the log does not count packets
		{"SF", 0, 4, nothing},
		{"REJ", 1, 1, rejected},
		{"S0", 2, 0, unanswered}, {"S0", 2, 2, nothing},
		{"SH", 2, 0, unanswered}, {"SH", 1, 0, nothing}, {"SH", 2, 3, nothing},
		{"RSTOS0", 2, 0, unanswered}, {"RSTOS0", 1, 0, nothing}, {"RSTOS0", 2, 1, nothing},
		{"SHR", 3, 3, nothing}, {"RSTRH", 3, 3, nothing}, {"OTH", 3, 3, nothing},
	} {
		if !isZeekState(c.state) {
			t.Errorf("%s is not a state", c.state)
		}
		if got := of(judgeZeek(flow.ProtoTCP, c.state, "", c.sent, c.answered)); got != c.want {
			t.Errorf("%s %d/%d: %v, want %v", c.state, c.sent, c.answered, got, c.want)
		}
	}
}

func TestJudgeUDP(t *testing.T) {
	for _, c := range []struct {
		state, history string
		sent, answered uint64
		want           verdicts
	}{
		{"SF", "Dd", 1, 1, established},
		{"S0", "D", 2, 0, unanswered},
		{"SHR", "d", 0, 2, nothing},
		{"SHR", "Cd", 0, 1, established}, // checksum offload: sent, but not counted
		{"SF", "", 1, 1, established},
		{"S0", "", 1, 0, unanswered},
		{"SF", "", 0, 2, nothing},
		{"SF", "", 0, 0, established},
		{"S0", "", 0, 0, unanswered},
	} {
		if got := of(judgeZeek(flow.ProtoUDP, c.state, c.history, c.sent, c.answered)); got != c.want {
			t.Errorf("%s %q %d/%d: %v, want %v", c.state, c.history, c.sent, c.answered, got, c.want)
		}
	}
}

func TestJudgeArgusTCP(t *testing.T) {
	for _, c := range []struct {
		state, dir  string
		answered    uint64
		bytesPerPkt uint64
		want        verdicts
	}{
		{"FSPA_FSPA", "->", 5, 500, established},
		{"S_SA", "->", 1, 60, established},
		{"SR_SA", "->", 1, 60, established},
		{"SPA_SRA", "->", 2, 60, established},
		{"S_RA", "->", 1, 60, rejected},
		{"S_R", "->", 1, 60, rejected},
		{"S_", "->", 0, 60, unanswered},
		{"SR_", "->", 0, 60, unanswered},
		{"SEC_", "->", 0, 60, unanswered},
		{"S_A", "->", 1, 60, attemptOnly},
		{"FSPA_FPA", "->", 1, 60, established}, // the capture missed the SYN+ACK
		{"SPA_", "->", 0, 60, nothing},
		{"PA_PA", "<?>", 4, 60, nothing},
		{"RPA_PA", "<?>", 4, 60, nothing},
		{"_SA", "->", 1, 60, onlyAnswer},
		{"F_RA", "->", 1, 60, verdicts{flow.SignalProbe, flow.SignalRefuse}},
		{"_RA", "->", 1, 60, verdicts{flow.SignalProbe, flow.SignalRefuse}},
		{"FPU_", "->", 0, 60, verdicts{flow.SignalProbe, flow.SignalNone}},
		{"FS_RA", "->", 1, 60, verdicts{flow.SignalProbe, flow.SignalRefuse}},
		{"FA_R", "->", 1, 60, nothing},
		{"REQ", "->", 0, 60, unanswered},
		{"INT", "->", 0, 60, unanswered},
		{"INT", "->", 2, 60, nothing},
		{"CON", "->", 2, 60, established},
		{"CON", "<?>", 2, 60, nothing},
		{"CLO", "->", 2, 60, established},
		{"RST", "->", 1, 60, rejected},
		{"RST", "->", 4, 400, established},
		{"TIM", "->", 4, 400, nothing},
	} {
		conv := &conversation{proto: flow.ProtoTCP, sent: volume{3, 3 * c.bytesPerPkt}, answered: volume{c.answered, 0}}
		if got := of(judgeArgus(conv, c.state, c.dir)); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.state, c.dir, got, c.want)
		}
	}
}

func TestParseSecondsKeepsEveryDigit(t *testing.T) {
	for s, want := range map[string]int64{
		"1655071198.444458":    1655071198444458000,
		"1655071198.444458123": 1655071198444458123,
		"1655071198":           1655071198000000000,
		"15.230937":            15230937000,
		"7.5e-05":              75000,
		"0.0000000001":         0,
		"-":                    0,
		"(empty)":              0,
		"0":                    0,
	} {
		if got, err := parseSeconds("ts", s); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"-1", "x", "1.x", "NaN", "Inf", "1e30", "9223372036854775807", "1.2.3", " 1"} {
		if got, err := parseSeconds("ts", s); err == nil {
			t.Errorf("%q: %d without an error", s, got)
		}
	}
}

func TestParseTimeTakesDatesAsUTC(t *testing.T) {
	const want = 1554394980325010000
	for _, s := range []string{
		"2019/04/04 16:23:00.325010", "2019-04-04 16:23:00.325010", "2019-04-04T16:23:00.325010Z",
		"2019-04-04T18:23:00.32501+02:00", "1554394980.325010",
	} {
		if got, err := parseTime("ts", s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "16:23:00", "0001-01-01 00:00:00", "9999-01-01 00:00:00"} {
		if got, err := parseTime("ts", s); err == nil {
			t.Errorf("%q: %d without an error", s, got)
		}
	}
}

func TestParsePort(t *testing.T) {
	for s, want := range map[string]uint16{"0": 0, "443": 443, "0x0303": 0x303, "65535": 65535, "080": 80, "": 0, "-": 0, "22.0": 22} {
		if got, err := parsePort("sport", s); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"65536", "-1", "http", "0x10000"} {
		if got, err := parsePort("sport", s); err == nil {
			t.Errorf("%q: %d without an error", s, got)
		}
	}
}

func TestICMPReplies(t *testing.T) {
	for _, c := range []struct{ proto, typ, want uint8 }{
		{flow.ProtoICMP, 8, 0}, {flow.ProtoICMP, 13, 14}, {flow.ProtoICMP, 10, 9}, {flow.ProtoICMP, 3, 3},
		{flow.ProtoICMPv6, 128, 129}, {flow.ProtoICMPv6, 8, 8}, {flow.ProtoICMPv6, 133, 134},
	} {
		conv := conversation{
			proto: c.proto, icmpType: c.typ, answered: volume{1, 64},
			judgement: judgement{forward: flow.SignalICMP, reverse: flow.SignalICMP},
		}
		records := conv.records(nil)
		if len(records) != 2 || records[0].ICMPType != c.typ || records[1].ICMPType != c.want {
			t.Errorf("protocol %d type %d: %+v", c.proto, c.typ, records)
		}
	}
}
