// Package draw draws a topology: the internet and routers on top, spines and
// leaves below, hosts at the bottom in columns under their switch, grouped
// and coloured by their labels, with their addresses in small print. The same
// topology always gives the same picture, byte by byte.
package draw

import (
	"math"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// SVG draws a topology as a picture of its own, with a background, for light
// and dark pages alike. Lengths in it are CSS pixels.
func SVG(t *clab.Topology) []byte {
	return render(best(read(t)))
}

// aspect is the width to height that a picture tries to have: a slide's.
const aspect = 16.0 / 9

// best lays the graph out with columns of different height, and takes the
// picture that comes nearest to a slide's shape.
func best(g *graph) *figure {
	var chosen *figure
	distance := math.Inf(1)
	for rows := 1; rows <= 12; rows++ {
		f := layOut(g, rows)
		if d := math.Abs(math.Log(f.w / f.h / aspect)); d < distance-1e-9 {
			chosen, distance = f, d
		}
	}
	return chosen
}
