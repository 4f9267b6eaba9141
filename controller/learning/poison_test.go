package learning

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// A stolen account calls a hundred attacks a day harmless. Whatever it says, the
// model either still finds such attacks or the training is refused.
func TestStolenAccount(t *testing.T) {
	schema := detector.ModelSchema()
	base := train(t, 3, nil)
	r := rand.New(rand.NewPCG(4, 4))
	honest := examplesOfSite(r)
	var s model.Scratch
	for _, days := range []int{1, 3, 10, 30} {
		var lies []Verdict
		for d := range days {
			for i := range 100 {
				lies = append(lies, Verdict{Finding: fmt.Sprintf("f-%d-%d", d, i), Who: "mallory", Schema: schema.Hash,
					Host: netip.AddrFrom4([4]byte{10, 9, byte(d), byte(i)}), Time: time.Unix(1.7e9+int64(d)*86400, 0),
					Windows: []Vector{vector(r, true), vector(r, true)}})
			}
		}
		list, _ := examplesOf(lies, schema, 1)
		m, err := model.Train(append(list, honest...), model.Options{Schema: schema, Sets: []model.Set{{Name: "history"}, {Name: "verdicts"}}, Base: base})
		if err != nil {
			if !errors.Is(err, model.ErrFlips) {
				t.Fatal(err)
			}
			t.Logf("%d days of lies: refused: %v", days, err)
			continue
		}
		found := 0

		for range 200 {
			if m.Score(vector(r, true), &s) >= m.Threshold {
				found++
			}
		}
		t.Logf("%d days of lies: %d of 200 windows of attacks are found", days, found)
		if found < 100 {
			t.Errorf("%d days of one account's lies hide %d of 200 attacks", days, 200-found)
		}
	}
}

// examplesOfSite is a history of benign windows.
func examplesOfSite(r *rand.Rand) []model.Example {
	var list []model.Example
	for i := range 2000 {
		list = append(list, model.Example{Values: vector(r, false), Host: fmt.Sprint("10.1.0.", i%100), Time: int64(i), Weight: historyWeight})
	}
	return list
}

// A few mistakes among right verdicts neither stop a training nor hide attacks.
func TestHonestMistakes(t *testing.T) {
	schema := detector.ModelSchema()
	base := train(t, 3, nil)
	r := rand.New(rand.NewPCG(6, 6))
	var verdicts []Verdict
	for i := range 20 {
		verdicts = append(verdicts, Verdict{Finding: fmt.Sprint("f-", i), Who: "ann", Schema: schema.Hash, Real: i >= 4,
			Host: netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}), Time: time.Unix(1.7e9, 0), Windows: []Vector{vector(r, true)}})
	}
	list, _ := examplesOf(verdicts, schema, 1)
	m, err := model.Train(append(list, examplesOfSite(r)...), model.Options{Schema: schema, Sets: []model.Set{{Name: "history"}, {Name: "verdicts"}}, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	var s model.Scratch
	found := 0
	for range 200 {
		if m.Score(vector(r, true), &s) >= m.Threshold {
			found++
		}
	}
	if found < 190 {
		t.Errorf("four mistakes among twenty verdicts hide %d of 200 attacks", 200-found)
	}
}
