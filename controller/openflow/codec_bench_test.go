package openflow

import "testing"

// BenchmarkEncode is one flow-mod into a buffer that has room, with the check
// that goes before it and without.
func BenchmarkEncode(b *testing.B) {
	for name, m := range benchMods() {
		buf := make([]byte, 0, 4096)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.append(buf, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/checked", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Validate(); err != nil {
					b.Fatal(err)
				}
				if _, err := m.append(buf, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeFlowStats is one flow out of a full statistics message.
func BenchmarkDecodeFlowStats(b *testing.B) {
	for name, m := range benchMods() {
		one := asStats(&m.Flow)
		n := (maxMessage - headerLen - multipartHeaderLen) / len(one)
		var body []byte
		for range n {
			body = append(body, one...)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			done := 0
			for b.Loop() {
				// Loop counts flows, which come n at a time.
				if done--; done > 0 {
					continue
				}
				flows, err := decodeFlowStats(body)
				if err != nil || len(flows) != n {
					b.Fatalf("%d flows, %v", len(flows), err)
				}
				done = n
			}
		})
	}
}

// benchMods are a rule as Platelet compiles most of them, and one that uses
// the connection tracker.
func benchMods() map[string]*FlowMod {
	drop, track := benchFlow(7), benchFlow(8)
	track.Match = append(track.Match, CTState(CTTracked|CTNew, CTTracked|CTNew|CTInvalid), Reg(3, 5, 0xffff))
	track.Actions = []Action{
		Conntrack{Commit: true, Zone: 7, Exec: []Action{Load{Dst: Subfield{Field: FieldCTLabel, Bits: 32}, Value: 5}}},
		Load{Dst: RegBits(15, 31, 1), Value: 1}, Resubmit{Table: 0},
	}
	return map[string]*FlowMod{"drop": {Flow: drop}, "conntrack": {Flow: track}}
}
