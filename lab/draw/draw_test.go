package draw_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/draw"
)

var update = flag.Bool("update", false, "rewrite the pictures")

// TestCommittedPictures: the pictures in the repository are those of the
// files.
func TestCommittedPictures(t *testing.T) {
	files, err := filepath.Glob("../*.clab.yml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d topologies, %v", len(files), err)
	}
	for _, file := range files {
		topo := load(t, file)
		picture := filepath.Join("..", topo.Name+".svg")
		got := draw.SVG(topo)
		if *update {
			if err := os.WriteFile(picture, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(picture)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not the picture of %s: go test ./lab/draw -update", picture, file)
		}
	}
}

func load(t *testing.T, file string) *clab.Topology {
	t.Helper()
	topo, err := clab.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// TestPicturesAreComplete reads pictures back, of our labs and of other
// people's: every node is in it by name, everything is inside, and no two
// nodes cover each other.
func TestPicturesAreComplete(t *testing.T) {
	ours, err := filepath.Glob("../*.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	public, err := filepath.Glob("../clab/testdata/public/*.yml")
	if err != nil || len(public) < 10 {
		t.Fatalf("%d public labs, %v", len(public), err)
	}
	drawn := 0
	for _, file := range append(ours, public...) {
		topo, err := clab.Load(file)
		if err != nil {
			t.Logf("not drawn: %v", err)
			continue
		}
		drawn++
		t.Run(filepath.Base(file), func(t *testing.T) {
			p := readPicture(t, draw.SVG(topo))
			for _, n := range topo.Nodes {
				if !strings.Contains(p.text, "\n"+n.Name+"\n") {
					t.Errorf("node %s is missing", n.Name)
				}
			}
			if len(p.boxes) < len(topo.Nodes) {
				t.Errorf("%d boxes for %d nodes", len(p.boxes), len(topo.Nodes))
			}
			for i, a := range p.boxes {
				if a.x < 0 || a.y < 0 || a.x+a.w > p.w || a.y+a.h > p.h {
					t.Errorf("%+v is outside of %g x %g", a, p.w, p.h)
				}
				for _, b := range p.boxes[:i] {
					if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h {
						t.Errorf("%+v covers %+v", a, b)
					}
				}
			}
		})
	}
	if drawn < 14 {
		t.Errorf("only %d labs were drawn", drawn)
	}
}

type rectangle struct{ x, y, w, h float64 }

// picture is what a test sees of one.
type picture struct {
	w, h float64
	// boxes are the cards and switches, which have their corners in common.
	boxes []rectangle
	// text is every text, one to a line.
	text string
}

func readPicture(t *testing.T, svg []byte) picture {
	t.Helper()
	var p picture
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.CharData:
			p.text += "\n" + string(token) + "\n"
		case xml.StartElement:
			attr := map[string]string{}
			for _, a := range token.Attr {
				attr[a.Name.Local] = a.Value
			}
			r := rectangle{number(attr["x"]), number(attr["y"]), number(attr["width"]), number(attr["height"])}
			switch {
			case token.Name.Local == "svg":
				p.w, p.h = r.w, r.h
			case token.Name.Local == "rect" && (attr["rx"] == "7" || attr["fill"] == "#1e293b"):
				p.boxes = append(p.boxes, r)
			}
		}
	}
}

func number(s string) float64 {
	v, _ := strconv.ParseFloat(s, 64)
	return v
}

// TestSaysWhatMatters looks for the facts of one lab in its picture.
func TestSaysWhatMatters(t *testing.T) {
	p := readPicture(t, draw.SVG(load(t, "../branch.clab.yml")))
	for _, want := range []string{
		"2 switches  ·  17 nodes  ·  18 links", "Open vSwitch bridge", "10.81.2.0/24  fd81:2::/64", "eth1 10.81.2.1/24", "203.0.113.66",
		"clients × 4", "attackers", "web:eth1 – branch-servers:branch-web", "gateway, router", "attacker outside",
	} {
		if !strings.Contains(p.text, want) {
			t.Errorf("%q is nowhere in the picture", want)
		}
	}
}

// TestHostileLabels: whatever stands in a file, the picture is well-formed.
func TestHostileLabels(t *testing.T) {
	for _, label := range []string{`</text><script>`, `"'&<>`, "\u0001\u0000\ufffe\u2028", strings.Repeat("long ", 60), "中文标签"} {
		topo, err := clab.Parse("t.yml", fmt.Appendf(nil, "name: x\ntopology:\n  nodes:\n    a: {kind: linux, labels: {app: %q}}\n    b: {kind: bridge}\n  links:\n  - endpoints: [a:eth1, b:p1]\n", label), os.LookupEnv)
		if err != nil {
			t.Logf("%q is refused: %v", label, err)
			continue
		}
		if p := readPicture(t, draw.SVG(topo)); !strings.Contains(p.text, "\na\n") {
			t.Errorf("%q: %s", label, p.text)
		}
	}
}

// FuzzSVG: any topology that can be read can be drawn, the same way twice.
func FuzzSVG(f *testing.F) {
	for _, file := range []string{"../first.clab.yml", "../fabric.clab.yml", "../branch.clab.yml", "../clab/testdata/public/03-linux-nodes-to-bridge-and-host.clab.yml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("name: x\ntopology:\n  nodes:\n    a: {kind: linux}\n    b: {kind: linux}\n  links:\n  - endpoints: [a:eth1, b:eth1]\n  - endpoints: [a:eth2, a:eth3]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		topo, err := clab.Parse("t.yml", data, func(string) (string, bool) { return "", false })
		if err != nil || len(topo.Nodes) > 200 || len(topo.Links) > 400 {
			return
		}
		svg := draw.SVG(topo)
		readPicture(t, svg)
		if !bytes.Equal(svg, draw.SVG(topo)) {
			t.Error("drawn twice, the pictures differ")
		}
	})
}
