package netflow_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// templatesOf returns the templates that datagrams define.
func templatesOf(t *testing.T, ds ...[]byte) *netflow.Templates {
	t.Helper()
	ts := netflow.NewTemplates(netflow.Limits{})
	decode(t, netflow.NewDecoder(netflow.Config{Templates: ts}), ds...)
	return ts
}

func TestTemplatesSurviveAnotherSourcePort(t *testing.T) {
	ts := netflow.NewTemplates(netflow.Limits{})
	d := netflow.NewDecoder(netflow.Config{Templates: ts})
	if _, err := d.Decode(nil, ipfix(1, 0, set(2, template(256, fiveTuple()))), now, sender("192.0.2.1:1000")); err != nil {
		t.Fatal(err)
	}
	data := ipfix(1, 0, set(256, fiveTupleRecord(6, 1, 2)))
	other := netflow.NewDecoder(netflow.Config{Templates: ts})
	for _, tt := range []struct {
		from string
		want int
	}{{"192.0.2.1:2000", 1}, {"[::ffff:192.0.2.1]:2000", 1}, {"192.0.2.2:1000", 0}} {
		rs, err := other.Decode(nil, data, now, sender(tt.from))
		if err != nil || len(rs) != tt.want {
			t.Errorf("from %s: %d records, %v; want %d", tt.from, len(rs), err, tt.want)
		}
	}
	if rs, _ := other.Decode(nil, ipfix(2, 0, set(256, fiveTupleRecord(6, 1, 2))), now, home()); len(rs) != 0 {
		t.Error("a template of another observation domain was used")
	}
}

func TestTemplateReplacedAndWithdrawn(t *testing.T) {
	d := netflow.NewDecoder(netflow.Config{})
	define := func(f fields) []byte { return ipfix(1, 0, set(2, template(256, f))) }
	data := ipfix(1, 0, set(256, []byte{6, 17}))
	if rs := decode(t, d, define(fields{4, 1}), data); len(rs) != 2 || rs[1].Proto != 17 {
		t.Errorf("records %+v", rs)
	}
	if rs := decode(t, d, define(fields{192, 1, 4, 1}), data); len(rs) != 1 || rs[0].TTL != 6 || rs[0].Proto != 17 {
		t.Errorf("after replacement %+v", rs)
	}
	if rs := decode(t, d, ipfix(1, 0, set(2, words(256, 0))), data); len(rs) != 0 {
		t.Errorf("after withdrawal %+v", rs)
	}
	options := append(words(257, 1, 1), words(4, 1)...)
	if rs := decode(t, d, define(fields{4, 1}), ipfix(1, 0, set(3, options)), ipfix(1, 0, set(2, words(2, 0))), data); len(rs) != 0 {
		t.Errorf("after withdrawal of all %+v", rs)
	}
	decode(t, d, ipfix(1, 0, set(3, words(3, 0)))) // the options template was left
	_, err := d.Decode(nil, ipfix(1, 0, set(3, words(3, 0))), now, home())
	wantKind(t, err, netflow.KindTemplate)
}

func TestTemplateLimits(t *testing.T) {
	define := func(id uint16, f fields) []byte { return ipfix(1, 0, set(2, template(id, f))) }
	for _, tt := range []struct {
		name   string
		limits netflow.Limits
		send   func(d *netflow.Decoder, i int) error
		want   int
	}{
		{"templates", netflow.Limits{Templates: 10}, func(d *netflow.Decoder, i int) error {
			_, err := d.Decode(nil, define(uint16(256+i), fields{4, 1}), now, home())
			return err
		}, 10},
		{"domains", netflow.Limits{Templates: 10}, func(d *netflow.Decoder, i int) error {
			_, err := d.Decode(nil, ipfix(uint32(i), 0, set(2, template(256, fields{4, 1}))), now, home())
			return err
		}, 10},
		{"exporters", netflow.Limits{Exporters: 10}, func(d *netflow.Decoder, i int) error {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
			_, err := d.Decode(nil, define(256, fields{4, 1}), now, from)
			return err
		}, 10},
		{"bytes", netflow.Limits{Bytes: 16 << 10, ExporterBytes: 16 << 10}, func(d *netflow.Decoder, i int) error {
			_, err := d.Decode(nil, define(uint16(256+i), make300()), now, home())
			return err
		}, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := netflow.NewTemplates(tt.limits)
			d := netflow.NewDecoder(netflow.Config{Templates: ts})
			refused := 0
			for i := range 1000 {
				if err := tt.send(d, i); err != nil {
					wantKind(t, err, netflow.KindTemplateLimit)
					refused++
				}
			}
			if n := ts.Len(); n == 0 || n > tt.want || n+refused != 1000 {
				t.Errorf("%d templates, %d refused; want at most %d", n, refused, tt.want)
			}
		})
	}
}

// make300 is a template of 300 fields.
func make300() (f fields) {
	for range 300 {
		f = append(f, 1, 8)
	}
	return f
}

func TestIdleTemplatesMakeRoom(t *testing.T) {
	ts := netflow.NewTemplates(netflow.Limits{Templates: 1, Idle: time.Minute})
	d := netflow.NewDecoder(netflow.Config{Templates: ts})
	later := func(after time.Duration, b []byte) error {
		_, err := d.Decode(nil, b, now+int64(after), home())
		return err
	}
	first, second := ipfix(1, 0, set(2, template(256, fields{4, 1}))), ipfix(1, 0, set(2, template(257, fields{4, 1})))
	if err := later(0, first); err != nil {
		t.Fatal(err)
	}
	// Data keeps a template alive as well as its repetition does.
	if err := later(61*time.Second, ipfix(1, 0, set(256, []byte{6}))); err != nil {
		t.Fatal(err)
	}
	wantKind(t, later(100*time.Second, second), netflow.KindTemplateLimit)
	if err := later(10*time.Minute, second); err != nil {
		t.Error(err)
	}
	if ts.Len() != 1 {
		t.Errorf("%d templates", ts.Len())
	}
}

// store is a TemplateStore in memory.
type store struct {
	m   map[string][]byte
	err error
}

func (s *store) Load(context.Context) (map[string][]byte, error) { return maps.Clone(s.m), s.err }

func (s *store) Save(_ context.Context, key string, val []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.m == nil {
		s.m = make(map[string][]byte)
	}
	s.m[key] = val
	return nil
}

func TestStoreRoundTrip(t *testing.T) {
	ctx := context.Background()
	ts := netflow.NewTemplates(netflow.Limits{})
	d := netflow.NewDecoder(netflow.Config{Templates: ts})
	options := append(words(300, 1, 1), words(34, 4)...)
	for _, from := range []string{"192.0.2.1:1", "[2001:db8::1]:1"} {
		for _, b := range [][]byte{
			ipfix(7, 0, set(2, template(256, fiveTuple()), template(257, fields{4, 1})), set(3, options)),
			v9(7, 0, set(0, template(256, fields{4, 1}))),
		} {
			if _, err := d.Decode(nil, b, now, sender(from)); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case <-ts.Changed():
	default:
		t.Error("no change announced")
	}
	s := &store{err: errors.New("away")}
	if err := ts.Save(ctx, s); !errors.Is(err, s.err) {
		t.Errorf("error %v", err)
	}
	s.err = nil
	if err := ts.Save(ctx, s); err != nil {
		t.Fatal(err)
	}
	if len(s.m) != 4 {
		t.Errorf("stored %v, want 2 exporters x 2 versions", s.m)
	}
	again := netflow.NewTemplates(netflow.Limits{})
	if err := again.Load(ctx, s, now); err != nil {
		t.Fatal(err)
	}
	if again.Len() != ts.Len() || ts.Len() != 8 {
		t.Errorf("%d templates, then %d", ts.Len(), again.Len())
	}
	d = netflow.NewDecoder(netflow.Config{Templates: again})
	rs, err := d.Decode(nil, ipfix(7, 0, set(256, fiveTupleRecord(6, 1, 2))), now, sender("[2001:db8::1]:9"))
	if err != nil || len(rs) != 1 || rs[0].DstPort != 2 {
		t.Errorf("records %+v, %v", rs, err)
	}
}

func TestStoreIsToldOfWithdrawal(t *testing.T) {
	ctx, s := context.Background(), &store{}
	ts := netflow.NewTemplates(netflow.Limits{})
	d := netflow.NewDecoder(netflow.Config{Templates: ts})
	for _, b := range [][]byte{ipfix(7, 0, set(2, template(256, fiveTuple()))), ipfix(7, 0, set(2, words(256, 0)))} {
		decode(t, d, b)
		if err := ts.Save(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	for key, val := range s.m {
		if len(val) != 0 {
			t.Errorf("%s still has %x", key, val)
		}
	}
	if err := netflow.NewTemplates(netflow.Limits{}).Load(ctx, s, now); err != nil {
		t.Errorf("empty value: %v", err)
	}
}

func TestLoadRefusesWhatIsBroken(t *testing.T) {
	good := set(2, template(256, fiveTuple()))
	key := "templates.v10.c0000201.00000007"
	for _, tt := range []struct {
		key  string
		val  []byte
		want string
	}{
		{key, good[:len(good)-1], "set"},
		{key, set(2, words(256, 5)), "template"},
		{key, set(256, words(256, 5)), "set"},
		{"templates.v5.c0000201.00000007", good, "no exporter"},
		{"templates.v10.c00002.00000007", good, "no exporter"},
		{"templates.v10.c0000201.7", good, "canonical"},
		{"other", good, "template key"},
	} {
		ts := netflow.NewTemplates(netflow.Limits{})
		err := ts.Load(context.Background(), &store{m: map[string][]byte{tt.key: tt.val}}, now)
		if err == nil || !strings.Contains(err.Error(), tt.want) || ts.Len() != 0 {
			t.Errorf("%s: error %v, %d templates; want an error about %q", tt.key, err, ts.Len(), tt.want)
		}
	}
	if err := netflow.NewTemplates(netflow.Limits{}).Load(context.Background(), &store{m: map[string][]byte{key: good}}, now); err != nil {
		t.Error(err)
	}
}

// Decoders share templates while they change; the race detector watches.
func TestTemplatesAreSharedSafely(t *testing.T) {
	ts := netflow.NewTemplates(netflow.Limits{Templates: 64})
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for w := range 4 {
		wg.Go(func() {
			d := netflow.NewDecoder(netflow.Config{Templates: ts})
			for i := range 500 {
				id := uint16(256 + (i+w)%32)
				b := ipfix(1, 0, set(2, template(id, fields{4, 1, 192, uint16(1 + i%2)})), set(id, []byte{6, 0, 6, 0, 6, 0}))
				rs, err := d.Decode(nil, b, now, home())
				if err != nil || len(rs) != 2 && len(rs) != 3 {
					errs <- fmt.Errorf("%d records, %w", len(rs), err)
					return
				}
				if err := ts.Save(context.Background(), &store{}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
