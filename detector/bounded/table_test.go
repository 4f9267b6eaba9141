package bounded

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

type item struct{ worth, data int64 }

func worth(v *item) int64 { return v.worth }

// The oracle is a map: as long as no set overflows, both must agree.
func TestAgreesWithMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New[uint64](1024, worth)
		oracle := map[uint64]int64{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			k := rapid.Uint64Range(0, 63).Draw(t, "key")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				_, v, fresh := table.Put(k, 1)
				_, had := oracle[k]
				if v == nil || fresh == had {
					t.Fatalf("Put(%d): fresh=%v, oracle had it=%v", k, fresh, had)
				}
				v.worth, v.data = 1, rapid.Int64().Draw(t, "data")
				oracle[k] = v.data
			case 1:
				if i, v := table.Find(k); v != nil {
					table.Delete(i)
				}
				delete(oracle, k)
			case 2:
				_, v := table.Find(k)
				want, had := oracle[k]
				if (v != nil) != had || had && v.data != want {
					t.Fatalf("Find(%d) = %v, oracle %v %v", k, v, want, had)
				}
			}
			if table.Len() != len(oracle) {
				t.Fatalf("Len = %d, oracle %d", table.Len(), len(oracle))
			}
			found := map[uint64]int64{}
			for i, k := range table.All() {
				found[k] = table.At(i).data
			}
			if !maps.Equal(found, oracle) {
				t.Fatalf("All gives %v, oracle %v", found, oracle)
			}
		}
	})
}

func TestWorthySurvivesFlood(t *testing.T) {
	table := New[uint64](1024, worth)
	for k := range uint64(100) {
		_, v, _ := table.Put(k, 10)
		v.worth, v.data = 10, int64(k)
	}
	for k := uint64(1000); k < 500_000; k++ {
		if _, v, _ := table.Put(k, 1); v != nil {
			v.worth = 1
		}
	}
	if table.Len() > table.Cap() {
		t.Fatalf("Len %d > Cap %d", table.Len(), table.Cap())
	}
	for k := range uint64(100) {
		if _, v := table.Find(k); v == nil || v.data != int64(k) {
			t.Fatalf("entry %d was washed out: %v", k, v)
		}
	}
	if table.Rejected() == 0 {
		t.Error("equal worth must refuse the newcomer, none was refused")
	}
}

func TestEvictsLeastWorthy(t *testing.T) {
	table := New[uint64](8, worth)
	for k := range uint64(8) {
		_, v, _ := table.Put(k, int64(k)+1)
		v.worth = int64(k) + 1
	}
	if _, v, fresh := table.Put(100, 5); v == nil || !fresh {
		t.Fatal("a worthier newcomer found no room")
	}
	if _, v := table.Find(0); v != nil {
		t.Error("the least worthy entry is still there")
	}
	if table.Evicted() != 1 {
		t.Errorf("Evicted = %d, want 1", table.Evicted())
	}
}

func TestSlotIsAWeakReference(t *testing.T) {
	table := New[uint64](8, worth)
	i, _, _ := table.Put(7, 1)
	if k, ok := table.Key(i); !ok || k != 7 {
		t.Fatalf("Key = %d, %v", k, ok)
	}
	table.Delete(i)
	if _, ok := table.Key(i); ok {
		t.Error("a deleted slot still names a key")
	}
}

// A table holds nearly as many entries as it says before any has to go.
func TestFillsUp(t *testing.T) {
	table := New[uint64](1<<16, worth)
	for k := range uint64(table.Cap()) {
		if _, v, _ := table.Put(k, 1); v != nil {
			v.worth = 1
		}
	}
	if table.Len() < table.Cap()*99/100 {
		t.Errorf("%d of %d entries found room", table.Len(), table.Cap())
	}
	// Full, it still takes whoever is worth more, and only those.
	kept := 0
	for k := uint64(1 << 20); k < 1<<20+5000; k++ {
		if _, v, _ := table.Put(k, 2); v != nil {
			v.worth = 2
			kept++
		}
	}
	if kept < 4990 {
		t.Errorf("%d of 5000 worthier newcomers found room", kept)
	}
	if table.Len() > table.Cap() {
		t.Errorf("Len %d > Cap %d", table.Len(), table.Cap())
	}
}

func TestNoAllocation(t *testing.T) {
	table := New[uint64](1024, worth)
	k := uint64(0)
	if n := testing.AllocsPerRun(10_000, func() {
		k++
		if _, v, _ := table.Put(k, int64(k)); v != nil {
			v.worth = int64(k)
		}
		table.Find(k / 2)
	}); n != 0 {
		t.Errorf("%v allocations per insertion, want 0", n)
	}
}
