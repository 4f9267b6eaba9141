package flowcollector

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// Config configures a Collector.
type Config struct {
	// SFlow and IPFIX are the addresses to listen on; those of IPFIX take
	// NetFlow version 9 and 5, too. Port 0 picks a free port.
	SFlow, IPFIX []netip.AddrPort
	// Shards is the number of sockets and receiver threads per address, 1 if
	// zero. The kernel spreads exporters over them by address and port.
	Shards int
	// Peers are the networks from which datagrams are accepted; from others
	// they are counted and dropped. It may be empty only if all addresses
	// are loopback: telemetry leads to containment, so nobody but the
	// switches may speak here.
	Peers []netip.Prefix

	// Handle takes the records. It is called from the receiver threads, at
	// the same time if there are several; the batch is reused after return.
	Handle func(batch []flow.Record)
	// Tick, if set, is called every 2 ms or sooner, from the thread of the
	// first receiver, with the time in Unix nanoseconds.
	Tick func(now int64)
	// Counters, if set, takes the interface counters of sFlow agents, from
	// the receiver threads. The value is reused after return.
	Counters func(*sflow.Counters)
	// Interface, if set, takes the interface names of IPFIX exporters, with
	// every record that has one. See netflow.Config.
	Interface func(exporter flow.Exporter, index uint32, name []byte)

	// SkipEgress leaves out egress records; see netflow.Config.
	SkipEgress bool
	// TemplateLimits bounds the memory for IPFIX templates.
	TemplateLimits netflow.Limits
	// Templates, if set, keeps IPFIX templates across restarts.
	Templates netflow.TemplateStore
	// Log takes what an operator should know; nothing is logged if nil.
	Log logrus.FieldLogger
}

const maxShards = 64

func (c *Config) validate() error {
	if len(c.SFlow)+len(c.IPFIX) == 0 {
		return errors.New("flowcollector: no address to listen on")
	}
	if c.Handle == nil {
		return errors.New("flowcollector: nothing to handle records")
	}
	if c.Shards < 0 || c.Shards > maxShards {
		return fmt.Errorf("flowcollector: %d shards, want 1 to %d", c.Shards, maxShards)
	}
	for _, a := range slices.Concat(c.SFlow, c.IPFIX) {
		if !a.IsValid() {
			return errors.New("flowcollector: invalid address to listen on")
		}
		if len(c.Peers) == 0 && !a.Addr().Unmap().IsLoopback() {
			return fmt.Errorf("flowcollector: listening on %v needs a list of peers", a)
		}
	}
	return nil
}

// peers is the list of networks that may send.
type peers []netip.Prefix

func newPeers(list []netip.Prefix) peers {
	p := make(peers, len(list))
	for i, x := range list {
		p[i] = x
		if a := x.Addr(); a.Is4In6() && x.Bits() >= 96 {
			p[i] = netip.PrefixFrom(a.Unmap(), x.Bits()-96)
		}
	}
	return p
}

// allow reports whether a sender may send. Without a list everybody may; see
// Config.Peers for when there may be none.
func (p peers) allow(a netip.Addr) bool {
	if len(p) == 0 {
		return true
	}
	a = a.WithZone("")
	for _, x := range p {
		if x.Contains(a) {
			return true
		}
	}
	return false
}
