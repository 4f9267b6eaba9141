package detector

import (
	"slices"
	"testing"
)

// What an attacker may try who knows how the models work, but neither their keys
// nor the sessions of others: to be taught slowly, to be taught by accomplices,
// to be lost in noise, to look like the rest.

// TestPoisoning lets every attack meet the same network, which has learned for
// two days and was restarted in between.
func TestPoisoning(t *testing.T) {
	t.Parallel()
	f := learned(t)
	state := f.export()
	for _, c := range []struct {
		name   string
		attack func(*testing.T, *fleet)
	}{
		{"slow ramp", testSlowRampIsFound}, {"chaff", testChaffDoesNotHide}, {"mimicry", testMimicryIsBounded},
		{"repetition", testRepetitionDoesNotTeach}, {"drift", testDriftIsAnnounced},
		{"changed host", testChangedHostIsLearnedAnew}, {"outliers", testFindsWhatIsUnlikeItself},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.attack(t, f.resume(t, state))
		})
	}
}

// until plays minutes until a member is found, at most so many, and returns how
// many it took; 0 when it was not found.
func (f *fleet) until(limit int, who *member, does func(minute int, v *[NumFeatures]float64)) int {
	before := len(f.foundFor(who))
	for minute := range limit {
		f.minutes(1, func(_ int, m *member, v *[NumFeatures]float64) {
			if m == who {
				does(minute, v)
			}
		})
		if len(f.foundFor(who)) > before {
			return minute + 1
		}
	}
	return 0
}

func testSlowRampIsFound(t *testing.T, f *fleet) {
	state := f.export()
	for _, percent := range []float64{1, 3, 10} {
		f := f.resume(t, state)
		var at []float64
		for _, who := range []int{1, 5, 9, 13} { // clients, one after the other
			fanOut := 2.0
			minutes := f.until(600, f.members[who], func(_ int, v *[NumFeatures]float64) {
				fanOut *= 1 + percent/100
				probing(v, fanOut)
			})
			if minutes == 0 {
				t.Errorf("a ramp of %v %% a minute was not found up to a fan-out of %.0f", percent, fanOut)
				continue
			}
			at = append(at, fanOut)
		}
		slices.Sort(at)
		t.Logf("%v %% a minute: found at a fan-out of %.0f", percent, at)
		if len(at) > 0 && at[len(at)-1] > 120 {
			t.Errorf("a ramp of %v %% a minute was found at a fan-out of %.0f only", percent, at[len(at)-1])
		}
	}
}

// Addresses behind the attacker's own port that all do what it is going to do
// count as one contributor, and what they do is not what others are held to.
func TestDecoysDoNotTeach(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 24, 12, 12)
	f.minutes(24*60, nil)
	const port = 777
	var decoys []*member
	for i := range 60 {
		decoys = append(decoys, f.join(1000+i, roleClient, port))
	}
	who := f.join(2000, roleClient, port)
	f.minutes(24*60, func(_ int, m *member, v *[NumFeatures]float64) {
		if slices.Contains(decoys, m) {
			probing(v, 60)
		}
	})
	if !f.e.anomaly.ready {
		t.Fatalf("not ready: %+v", f.e.Stats())
	}
	minutes := f.until(30, who, func(_ int, v *[NumFeatures]float64) { probing(v, 60) })
	t.Logf("found after %d minutes, beside %d decoys", minutes, len(decoys))
	if minutes == 0 {
		t.Error("decoys hid the attacker")
	}
	victim := f.members[2] // somebody else's host that is taken over
	if f.until(30, victim, func(_ int, v *[NumFeatures]float64) { probing(v, 60) }) == 0 {
		t.Error("decoys hid an attack from elsewhere")
	}
}

// Harmless traffic beside the attack moves shares and means, not what is new.
func testChaffDoesNotHide(t *testing.T, f *fleet) {
	for _, chaff := range []float64{1, 10, 100} {
		who := f.members[int(chaff)%7+2]
		minutes := f.until(30, who, func(_ int, v *[NumFeatures]float64) {
			probing(v, 60)
			v[FeatureBytesIn] += 1e5 * chaff
			v[FeatureBytesOut] += 5e3 * chaff
			v[FeatureAccepted] += 5 * chaff
			v[FeatureOpens] += 5 * chaff
			v[FeatureFailedShare] = v[FeatureFailed] / (v[FeatureFailed] + v[FeatureAccepted])
		})
		t.Logf("chaff %v: found after %d minutes", chaff, minutes)
		if minutes == 0 {
			t.Errorf("chaff of %v successful conversations for 60 probes hid the attack", 5*chaff)
		}
	}
}

// Who stays within what the host does anyway is not found: this is the limit,
// stated so that it does not move unnoticed.
func testMimicryIsBounded(t *testing.T, f *fleet) {
	fastest := 0.0
	for i, n := range []float64{1, 2, 4, 8, 16, 32} {
		if f.until(120, f.members[i+1], func(_ int, v *[NumFeatures]float64) { probing(v, n) }) > 0 {
			break
		}
		fastest = n
	}
	t.Logf("up to %v probes a minute go unnoticed for two hours", fastest)
	if fastest > 16 {
		t.Errorf("%v probes a minute went unnoticed for two hours", fastest)
	}
}

// Repeating an attack does not make it normal: after three days of it the same attack
// by another host is still found.
func testRepetitionDoesNotTeach(t *testing.T, f *fleet) {
	loud, other := f.members[4], f.members[6]
	f.minutes(72*60, func(_ int, m *member, v *[NumFeatures]float64) {
		if m == loud {
			probing(v, 60)
		}
	})
	if len(f.foundFor(loud)) == 0 {
		t.Error("the first attacker was not found")
	}
	if f.until(30, other, func(_ int, v *[NumFeatures]float64) { probing(v, 60) }) == 0 {
		t.Error("the attack had become normal")
	}
}

// What all hosts do from one day on is announced, not followed in silence.
func testDriftIsAnnounced(t *testing.T, f *fleet) {
	f.minutes(12*60, func(_ int, _ *member, v *[NumFeatures]float64) {
		v[FeatureOpens] += 15 // a new agent on every host asks the same two servers
		v[FeatureAccepted] += 15
		v[FeatureServers] += 2
		v[FeatureServices] += 2
		v[FeatureBytesOut] += 2e6
		v[FeatureBytesIn] += 2e6
		v[FeatureUDPShare] = 0.9
	})
	for _, n := range f.notices {
		if n.What == LearningDrift && !n.Host.IsValid() {
			t.Logf("after %d minutes: %s", (n.Time-t0)/windowLength-48*60, n.Why)
			return
		}
	}
	t.Errorf("no drift in %d notices", len(f.notices))
}

// A host that has changed for good is learned anew, and that is said.
func testChangedHostIsLearnedAnew(t *testing.T, f *fleet) {
	who := f.members[40]
	f.minutes(30*60, func(_ int, m *member, v *[NumFeatures]float64) {
		if m == who {
			probing(v, 40)
			v[FeatureBytesOut] += 1e7
		}
	})
	var what []Learning
	for _, n := range f.notices {
		if n.Host == who.addr.netip() {
			what = append(what, n.What)
		}
	}
	if !slices.Equal(what, []Learning{LearningPaused, LearningRelearned}) || len(f.foundFor(who)) == 0 {
		t.Errorf("announced %v, %d findings; want paused, then relearned, and findings between", what, len(f.foundFor(who)))
	}
}
