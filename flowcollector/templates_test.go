package flowcollector_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector"
)

// memoryStore is a netflow.TemplateStore that can be told to fail.
type memoryStore struct {
	mu    sync.Mutex
	m     map[string][]byte
	fail  int // the next saves that fail
	saves int
}

func (s *memoryStore) Load(context.Context) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m), nil
}

func (s *memoryStore) Save(ctx context.Context, key string, val []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("store is away")
	}
	if s.m == nil {
		s.m = make(map[string][]byte)
	}
	s.m[key] = append([]byte(nil), val...)
	s.saves++
	return nil
}

func (s *memoryStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

// Open vSwitch repeats its templates only every 600 s: a collector that
// restarts has to understand the next datagram.
func TestCollectorRestartKeepsTemplates(t *testing.T) {
	store := &memoryStore{fail: 1}
	templates, data := split(datagrams(t, "ovs-ipfix-drop.pcap"))

	first := start(t, flowcollector.Config{IPFIX: loopback(), Templates: store})
	send(t, first.Addresses(flowcollector.ProtocolIPFIX)[0], templates...)
	eventually(t, "templates saved, after a failure", func() bool { return store.len() > 0 })
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	second := start(t, flowcollector.Config{IPFIX: loopback(), Templates: store})
	send(t, second.Addresses(flowcollector.ProtocolIPFIX)[0], data...)
	eventually(t, "32 records", func() bool { return len(second.received()) == 32 })
	if n := second.Stats().IPFIX.UnknownTemplate; n != 0 {
		t.Errorf("%d data sets without template", n)
	}

	blind := start(t, flowcollector.Config{IPFIX: loopback()})
	send(t, blind.Addresses(flowcollector.ProtocolIPFIX)[0], data...)
	eventually(t, "without the store, all unknown", func() bool {
		return blind.Stats().IPFIX.UnknownTemplate == uint64(len(data))
	})
}

// What was learned in the last moment is saved on the way out.
func TestCollectorSavesTemplatesAtShutdown(t *testing.T) {
	store := &memoryStore{}
	templates, _ := split(datagrams(t, "ovs-ipfix-drop.pcap"))
	c := start(t, flowcollector.Config{IPFIX: loopback(), Templates: store})
	send(t, c.Addresses(flowcollector.ProtocolIPFIX)[0], templates...)
	eventually(t, "templates received", func() bool {
		return c.Stats().IPFIX.Datagrams == uint64(len(templates))
	})
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	if store.len() == 0 {
		t.Error("nothing saved")
	}
}
