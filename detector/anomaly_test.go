package detector

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fleet plays minutes of hosts to the unsupervised models, without the records
// behind them, so that weeks pass in seconds.
type fleet struct {
	t       testing.TB
	e       *Engine
	r       *rand.Rand
	now     int64
	members []*member
	notices []Notice
	fired   []Finding
}

// member is a host with a way of life.
type member struct {
	addr address
	kind hostRole
	busy float64 // its own size
	on   bool    // a client at work
	port uint32
}

func newFleet(t testing.TB, clients, servers, devices int, change ...func(*Config)) *fleet {
	t.Helper()
	f := &fleet{t: t, r: rand.New(rand.NewPCG(11, 12)), now: t0}
	cfg := DefaultConfig()
	cfg.Seed = 7
	cfg.Anomaly.Hosts = 1 << 10
	cfg.Limit = LimitConfig{Hosts: 1 << 10, Contacts: 64, Pending: 64, Suspects: 64, MACs: 64, Cells: 64,
		Sessions: 64, Edges: 64, Windows: 64, Findings: 64}
	cfg.Anomaly.Announce = func(n Notice) { f.notices = append(f.notices, n) }
	cfg.Emit = func(x Finding) {
		if x.State == StateFiring {
			f.fired = append(f.fired, x)
		}
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.e = e
	for i := range clients + servers + devices {
		kind := roleClient
		if i >= clients {
			kind = roleServer
		}
		if i >= clients+servers {
			kind = roleDevice
		}
		f.join(i+1, kind, uint32(i+1))
	}
	return f
}

// join adds a host behind a port.
func (f *fleet) join(n int, kind hostRole, port uint32) *member {
	m := &member{addr: addressOf(hostAddr(n)), kind: kind, busy: math.Exp(f.r.NormFloat64() / 2), port: port}
	f.members = append(f.members, m)
	_, h, _ := f.e.hosts.Put(m.addr, 1)
	h.inPort, h.seen = port, f.now
	return m
}

func (f *fleet) poisson(mean float64) float64 {
	n, p := 0.0, math.Exp(-mean)
	for u := f.r.Float64(); u > p && n < 10*mean+20; n++ {
		u *= f.r.Float64()
	}
	return n
}

// live is what a member does in a minute.
func (f *fleet) live(m *member, at int64) (v [NumFeatures]float64) {
	noise := func(x float64) float64 { return x * math.Exp(f.r.NormFloat64()/3) }
	switch m.kind {
	case roleServer:
		v[FeatureServed] = f.poisson(20 * m.busy)
		v[FeatureClients] = v[FeatureServed] / 2
		v[FeatureBytesIn], v[FeatureBytesOut] = noise(1e4*m.busy), noise(2e5*m.busy)
		v[FeatureOpens] = f.poisson(0.5)
	case roleDevice:
		v[FeatureOpens] = 6
		v[FeatureRegularity] = 0.95
		v[FeatureBytesOut], v[FeatureBytesIn] = noise(600), noise(400)
	default:
		// Sessions of about twenty minutes, at work more than at night.
		hour := time.Unix(0, at).UTC().Hour()
		begin := 0.003
		if hour >= 8 && hour < 18 {
			begin = 0.03
		}
		if m.on {
			m.on = f.r.Float64() >= 0.05
		} else {
			m.on = f.r.Float64() < begin
		}
		v[FeatureOpens] = f.poisson(0.7)
		v[FeatureBytesIn] = noise(2e3)
		if m.on {
			v[FeatureOpens] += f.poisson(8 * m.busy)
			v[FeatureBytesIn] = noise(5e5 * m.busy)
		}
		v[FeatureBytesOut] = v[FeatureBytesIn] / 20
		v[FeatureOutside] = 0.8
		v[FeatureNewEdges] = f.poisson(0.1 * v[FeatureOpens])
	}
	v[FeatureAccepted] = v[FeatureOpens]
	v[FeatureServices] = math.Min(v[FeatureOpens], 2+v[FeatureOpens]/2)
	if m.kind == roleDevice {
		v[FeatureServices] = 1
	}
	v[FeatureServers] = v[FeatureServices]
	v[FeaturePacketsOut], v[FeaturePacketsIn] = 1+v[FeatureBytesOut]/500, 1+v[FeatureBytesIn]/1000
	v[FeatureSizeMean] = v[FeatureBytesOut] / v[FeaturePacketsOut]
	v[FeatureTCPShare] = 1
	return v
}

// minutes lets time pass. change, if any, alters what a member does.
func (f *fleet) minutes(n int, change func(minute int, m *member, v *[NumFeatures]float64)) {
	for minute := range n {
		f.now += windowLength
		f.e.Advance(f.now)
		for _, m := range f.members {
			v := f.live(m, f.now)
			if change != nil {
				change(minute, m, &v)
			}
			b := f.e.anomaly.baseline(m.addr)
			b.surprise = float32(math.Exp(f.r.NormFloat64()) * (1 + v[FeatureNewEdges]*v[FeatureNewEdges]))
			f.e.anomaly.window(&Window{Host: m.addr.netip(), addr: m.addr, Start: f.now - windowLength, End: f.now,
				Values: v, Rate: 1, Records: 10})
		}
	}
}

// learned is a fleet that has learned enough to judge, after a few days.
func learned(t testing.TB, change ...func(*Config)) *fleet {
	f := newFleet(t, 24, 12, 12, change...)
	f.minutes(48*60, nil)
	if !f.e.anomaly.ready {
		t.Fatalf("not ready after a day: %+v", f.e.Stats())
	}
	return f
}

func (f *fleet) foundFor(m *member) []Finding {
	var list []Finding
	for _, x := range f.fired {
		if x.Host == m.addr.netip() {
			list = append(list, x)
		}
	}
	return list
}

// probing makes a host begin n more conversations per minute with hosts it did
// not know, half of which fail.
func probing(v *[NumFeatures]float64, n float64) {
	v[FeatureOpens] += n
	v[FeatureFailed] += n / 2
	v[FeatureAccepted] += n / 2
	v[FeatureFailedShare] = v[FeatureFailed] / (v[FeatureFailed] + v[FeatureAccepted])
	v[FeatureServers] += n
	v[FeatureServices] += n
	v[FeatureNewEdges] += n
	v[FeaturePacketsOut] += 3 * n
	v[FeatureBytesOut] += 180 * n
}

func TestAlertRateIsKept(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 24, 4, 4)
	f.minutes(36*60, nil)
	if len(f.fired) > 0 {
		t.Errorf("%d findings while it learned", len(f.fired))
	}
	const hours = 48
	f.minutes(hours*60, nil)
	rate := float64(len(f.fired)) / (hours * float64(len(f.members)))
	t.Logf("%d findings, %.5f per host-hour", len(f.fired), rate)
	what := map[Learning]int{}
	for _, n := range f.notices {
		what[n.What]++
		if n.What == LearningDrift || n.What == LearningRelearned {
			t.Log((n.Time-t0)/3600e9, n.Host, n.Why)
		}
	}
	t.Log(what)
	if rate > f.e.cfg.Anomaly.AlertRate {
		t.Errorf("%d findings of benign hosts, %.4f per host-hour, %v were promised", len(f.fired), rate, f.e.cfg.Anomaly.AlertRate)
	}
}

func TestSaysThatItLearns(t *testing.T) {
	f := newFleet(t, 4, 1, 1)
	f.minutes(5*60, nil)
	f.minutes(30, func(_ int, m *member, v *[NumFeatures]float64) { probing(v, 60) })
	if len(f.fired) > 0 {
		t.Errorf("fired before it could know: %+v", f.fired[0])
	}
	if s := f.e.Stats(); s.NeededHours != 399 || s.CalibratedHours >= s.NeededHours || s.Baselines != 6 {
		t.Errorf("stats %+v", s)
	}
}

func testFindsWhatIsUnlikeItself(t *testing.T, f *fleet) {
	for _, c := range []struct {
		name     string
		who      *member
		does     func(v *[NumFeatures]float64)
		features []string
	}{
		{"a client that probes", f.members[3], func(v *[NumFeatures]float64) { probing(v, 80) },
			[]string{"services", "servers", "new_edges", "failed", "failed_share", "edge_surprise", "opens"}},
		{"a device that begins to talk to many", f.members[40], func(v *[NumFeatures]float64) { probing(v, 10) },
			[]string{"services", "servers", "new_edges", "failed", "failed_share", "edge_surprise"}},
		{"a server that sends what it was never asked for", f.members[27], func(v *[NumFeatures]float64) {
			v[FeatureOpens] += 3
			v[FeatureOutside], v[FeatureNewEdges] = 1, 3
			v[FeatureBytesOut] *= 300
			v[FeaturePacketsOut] *= 300
		}, []string{"bytes_out", "packets_out", "outside_share", "new_edges", "edge_surprise"}},
	} {
		before := len(f.foundFor(c.who))
		delay := 0
		for ; delay < 15 && len(f.foundFor(c.who)) == before; delay++ {
			f.minutes(1, func(_ int, m *member, v *[NumFeatures]float64) {
				if m == c.who {
					c.does(v)
				}
			})
		}
		list := f.foundFor(c.who)
		if len(list) == before {
			t.Errorf("%s: not found in %d minutes", c.name, delay)
			continue
		}
		x := list[len(list)-1]
		t.Logf("%s: %d minutes, score %.3f, %s, %v", c.name, delay, x.Score, x.Severity, x.Evidence)
		if x.Kind != KindAnomaly || x.Family != FamilyOutlier || x.Sequential || x.Severity == SeverityHigh {
			t.Errorf("%s: %+v", c.name, x)
		}
		if !slices.Contains(c.features, x.Evidence[0].Feature) || x.Evidence[0].Value <= x.Evidence[0].Baseline {
			t.Errorf("%s: evidence %+v, want one of %v first", c.name, x.Evidence, c.features)
		}
	}
}
