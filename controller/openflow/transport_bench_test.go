package openflow

import "testing"

// BenchmarkTransport compares the ways to the same switch: the round trip of
// a barrier, and a bundle of 1,000 flows. Ratios are to the management socket.
func BenchmarkTransport(b *testing.B) {
	ctx, sw, mgmt := realSwitch(b, "plofway")
	keys := newPKI(b)
	certificate, key := keys.issue("hv-1", "switch")
	if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, keys.ca("controller"),
		"--", "set-controller", "plofway", "ptcp:16653:127.0.0.1", "pssl:16654:127.0.0.1"); err != nil {
		b.Fatal(err)
	}
	flows := make([]FlowMod, 1000)
	for i := range flows {
		flows[i] = FlowMod{Flow: benchFlow(i)}
	}
	var barriers, bundles []way
	var first *Conn
	dialer := Dialer{TLS: keys.controller("platelet")}
	for _, to := range []struct{ name, target string }{
		{"unix", mgmt}, {"tcp", "tcp:127.0.0.1:16653"}, {"ssl", "ssl:127.0.0.1:16654"},
	} {
		c, err := dialer.Dial(ctx, to.target)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if first == nil {
			first = c
		}
		barriers = append(barriers, way{to.name, func() error { return c.Barrier(ctx) }})
		bundles = append(bundles, way{to.name, func() error { return c.Commit(ctx, Tx{Flows: flows}) }})
	}
	b.Run("barrier", func(b *testing.B) { turns(ctx, b, first, barriers) })
	b.Run("1000", func(b *testing.B) { turns(ctx, b, first, bundles) })
}
