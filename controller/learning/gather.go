// Package learning is the site's side of the supervised classifier: it turns
// labelled recordings and operators' verdicts into training sets, keeps models,
// history and verdicts in the state directory, and sees to it that a model acts
// only after it has stood beside the one that acts now.
package learning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/evaluate"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// maxLabels bounds the labelled rows of one input, maxExamples its windows.
const (
	maxLabels   = 8 << 20
	maxExamples = 1 << 20
)

// Gather runs a labelled recording through the detectors, shown as sampling says,
// and returns the windows of hosts that its labels speak of. The set's number is
// set in every example.
func Gather(ctx context.Context, cfg detector.Config, src evaluate.Set, sampling evaluate.Sampling, set int) ([]model.Example, model.Set, error) {
	sum, err := hashFiles(src.Inputs)
	if err != nil {
		return nil, model.Set{}, err
	}
	g := &gatherer{labels: src.Labels, set: set, rows: map[netip.Addr][]labelled{}}
	cfg.Emit = nil
	cfg.Model = detector.ModelConfig{Scored: g.window}
	engine, err := detector.New(cfg)
	if err != nil {
		return nil, model.Set{}, fmt.Errorf("detectors: %w", err)
	}
	in, err := replay.Open(src.Inputs, replay.Options{Label: g.label})
	if err != nil {
		return nil, model.Set{}, err
	}
	defer in.Close()
	if err := play(ctx, sampling.Of(in, cfg.Seed), engine); err != nil {
		return nil, model.Set{}, err
	}
	if g.overflow {
		return nil, model.Set{}, fmt.Errorf("%s: more than %d labelled rows or %d windows; train from a part of it", src.Name, maxLabels, maxExamples)
	}
	name := src.Name
	if sampling.Tap || sampling.Rate != 1 {
		name += " (" + sampling.String() + ")"
	}
	return g.examples(), model.Set{Name: name, SHA256: sum}, nil
}

// play gives the engine every record, and the time that completes the last
// windows.
func play(ctx context.Context, in evaluate.Records, engine *detector.Engine) error {
	playback := detector.NewPlayback(engine)
	var r flow.Record
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		err := in.Read(&r)
		if errors.Is(err, io.EOF) {
			playback.Finish()
			engine.Advance(r.Time + int64(2*time.Minute))
			return nil
		}
		if err != nil {
			return err
		}
		playback.Observe(&r)
	}
}

// hashFiles is the SHA-256 of the files' content, one after the other.
func hashFiles(files []string) (string, error) {
	var parts []io.Reader
	for _, name := range files {
		if name == replay.Stdin {
			return "", nil // it is gone once read
		}
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		parts = append(parts, f)
	}
	return model.HashOf(io.MultiReader(parts...))
}

// labelled is a row that names a host.
type labelled struct {
	begin, end int64
	class      replay.Class
	victim     bool // the host is the row's responder
}

// seen is a window before it has its label.
type seen struct {
	host       netip.Addr
	start, end int64
	values     []float64
}

type gatherer struct {
	labels   []evaluate.HostLabel
	set      int
	rows     map[netip.Addr][]labelled
	count    int
	windows  []seen
	overflow bool
}

func (g *gatherer) label(l replay.Label) {
	if l.Class == replay.ClassUnknown {
		return
	}
	if g.count >= maxLabels {
		g.overflow = true
		return
	}
	g.count++
	end := l.Time + max(l.Duration, 0)
	src, dst := l.Src.Unmap(), l.Dst.Unmap()
	g.rows[src] = append(g.rows[src], labelled{l.Time, end, l.Class, false})
	g.rows[dst] = append(g.rows[dst], labelled{l.Time, end, l.Class, true})
}

func (g *gatherer) window(w *detector.Window, _, _ float64) {
	if len(g.windows) >= maxExamples {
		g.overflow = true
		return
	}
	g.windows = append(g.windows, seen{host: w.Host.Unmap(), start: w.Start, end: w.End, values: w.Vector()})
}

// examples puts labels and windows together.
func (g *gatherer) examples() []model.Example {
	for _, rows := range g.rows {
		slices.SortFunc(rows, func(a, b labelled) int { return cmp.Compare(a.begin, b.begin) })
	}
	var list []model.Example
	for _, w := range g.windows {
		class := g.classOf(w)
		if class == replay.ClassUnknown {
			continue
		}
		list = append(list, model.Example{Values: w.values, Malicious: class == replay.ClassMalicious,
			Host: w.host.String(), Set: g.set, Time: w.start})
	}
	return list
}

// classOf says what the labels say of a window, those of hosts before those of
// flows. A window is malicious when the
// host began something malicious in it, and benign when something benign, that
// it took part in, began in it, and nothing malicious of its own was going on.
// Being a victim makes nobody malicious.
func (g *gatherer) classOf(w seen) replay.Class {
	for i := range g.labels {
		if l := &g.labels[i]; l.Covers(evaluate.Host{Addr: w.host}, w.start) {
			if l.Malicious {
				return replay.ClassMalicious
			}
			return replay.ClassBenign
		}
	}
	class := replay.ClassUnknown
	for _, r := range g.rows[w.host] {
		if r.begin >= w.end {
			break
		}
		begins := r.begin >= w.start
		switch {
		case r.class == replay.ClassMalicious && !r.victim && begins:
			return replay.ClassMalicious
		case r.class == replay.ClassMalicious && !r.victim && r.end >= w.start:
			return replay.ClassUnknown // it goes on, but need not show
		case r.class == replay.ClassBenign && begins:
			class = replay.ClassBenign
		}
	}
	return class
}
