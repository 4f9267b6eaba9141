package midas

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/detector/keyed"
)

type labelledEdge struct {
	src, dst uint64
	minute   int64
	attack   bool
}

// readEdges reads src,dst,minute,label,... in the order of the minutes.
func readEdges(t testing.TB, path string) []labelledEdge {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var edges []labelledEdge
	lines := bufio.NewScanner(z)
	lines.Scan() // the header
	for lines.Scan() {
		col := strings.SplitN(lines.Text(), ",", 5)
		src, err1 := strconv.ParseUint(col[0], 10, 64)
		dst, err2 := strconv.ParseUint(col[1], 10, 64)
		minute, err3 := strconv.ParseInt(col[2], 10, 64)
		if err := cmp.Or(err1, err2, err3); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		edges = append(edges, labelledEdge{src, dst, minute, col[3] == "1"})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(edges, func(a, b labelledEdge) int { return cmp.Compare(a.minute, b.minute) })
	return edges
}

// ranked numbers the minutes that have edges from 1, as the authors do.
func ranked(edges []labelledEdge) []labelledEdge {
	var rank, latest int64
	for i := range edges {
		if m := edges[i].minute; i == 0 || m != latest {
			rank, latest = rank+1, m
		}
		edges[i].minute = rank
	}
	return edges
}

// auc is the area under the ROC curve: the probability that an attack scores
// higher than benign traffic, ties counting half (Mann and Whitney).
func auc(d *Detector, edges []labelledEdge) float64 {
	type scored struct {
		score  float64
		attack bool
	}
	list := make([]scored, len(edges))
	for i, e := range edges {
		list[i] = scored{d.Edge(e.src, e.dst, e.minute).Max(), e.attack}
	}
	slices.SortFunc(list, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	var below, area, attacks float64
	for i := 0; i < len(list); {
		var benign, hits float64
		j := i
		for ; j < len(list) && list[j].score == list[i].score; j++ {
			if list[j].attack {
				hits++
			} else {
				benign++
			}
		}
		area += hits * (below + benign/2)
		below += benign
		attacks += hits
		i = j
	}
	return area / (below * attacks)
}

// TestPublishedAUC holds the variants against what their authors published for
// DARPA 1998, where the data are: a directory below PLATELET_DATA.
func TestPublishedAUC(t *testing.T) {
	path := filepath.Join(os.Getenv("PLATELET_DATA"), "darpa98-edges", "edges.csv.gz")
	if os.Getenv("PLATELET_DATA") == "" {
		t.Skip("PLATELET_DATA does not name the labelled sets; TestExcerpt checks the same code on an excerpt")
	}
	edges := ranked(readEdges(t, path))
	for _, c := range []struct {
		name      string
		v         Variant
		published float64
	}{{"MIDAS-R", Relational, 0.951}, {"MIDAS-F", Filtering, 0.987}} {
		for seed := range uint64(5) {
			d, err := New(DefaultConfig(c.v, keyed.Key{seed, 1}))
			if err != nil {
				t.Fatal(err)
			}
			got := auc(d, edges)
			t.Logf("%s, key %d: %.4f", c.name, seed, got)
			if math.Abs(got-c.published) > 0.005 {
				t.Errorf("%s, key %d: AUC %.4f, published %.3f", c.name, seed, got, c.published)
			}
		}
	}
}
