package calendar_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/calendar"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// draw makes a set of policies in zones that change their clocks on different
// days, or not at all, some of which end.
func draw(t *rapid.T) *policy.Set {
	set := &policy.Set{}
	for range rapid.IntRange(1, 6).Draw(t, "policies") {
		p := policy.Policy{}
		if rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
			end := policytest.Now().Add(time.Duration(rapid.IntRange(-100, 1000*24*60).Draw(t, "end")) * time.Minute)
			p.ExpiresAt = &end
		}
		if rapid.IntRange(0, 4).Draw(t, "scheduled") > 0 {
			name := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"}).Draw(t, "zone")
			loc, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			p.Schedule = policytest.Schedules().Draw(t, "schedule")
			p.Schedule.Zone.Location = loc
		}
		set.Policies = append(set.Policies, p)
	}
	return set
}

func state(set *policy.Set, at time.Time) string {
	out := ""
	for i := range set.Policies {
		p := &set.Policies[i]
		out += fmt.Sprint(p.Active(at), p.ExpiresAt != nil && !at.Before(*p.ExpiresAt), " ")
	}
	return out
}

// At every time the same policies are in force as at one of the instants, the
// first of which is now.
func TestInstantsStandForAllTimes(t *testing.T) {
	most := 0
	rapid.Check(t, func(t *rapid.T) {
		set := draw(t)
		known := map[string]bool{}
		instants := calendar.Instants(policytest.Now(), set)
		for _, at := range instants {
			known[state(set, at)] = true
		}
		if !instants[0].Equal(policytest.Now()) {
			t.Fatalf("the first is %s", instants[0])
		}
		most = max(most, len(instants))
		step := time.Duration(rapid.IntRange(29, 59).Draw(t, "step")) * time.Minute
		for at := policytest.Now(); at.Before(policytest.Now().Add(3 * 365 * 24 * time.Hour)); at = at.Add(step) {
			if !known[state(set, at)] {
				t.Fatalf("at %s it is like at none of %d instants: %s", at, len(instants), state(set, at))
			}
		}
	})
	if most < 10 {
		t.Errorf("%d instants at most", most)
	}
}

// More schedules than bits in a word are no harm: all that they can come to is
// told.
func TestManySchedules(t *testing.T) {
	set := &policy.Set{}
	for i := range 100 {
		set.Policies = append(set.Policies, policy.Policy{Schedule: &policy.Schedule{From: policy.Clock(6 * i), To: policy.Clock(6*i + 600)}})
	}
	if n := len(calendar.Instants(policytest.Now(), set)); n < 190 || n > 201 {
		t.Errorf("%d instants, of about 200 edges", n)
	}
}
