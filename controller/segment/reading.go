package segment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/intel"
	"github.com/platelet-sdn/platelet/segmentation/lint"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Source reads what people wrote. It may take as long as disks take: nothing
// that enforces waits for it.
type Source interface {
	// LoadPolicies reads policies, and what people told of workloads;
	// PolicyFiles lists the files of both.
	LoadPolicies() (*Policies, error)
	PolicyFiles() ([]string, error)
	// FeedNames lists the feeds, LoadFeed says what one holds at a time, and
	// FeedFiles lists its files.
	FeedNames() []string
	LoadFeed(name string, now time.Time) (intel.Feed, error)
	FeedFiles(name string) ([]string, error)
}

// Policies is what files say.
type Policies struct {
	Set   *policy.Set
	Known []policy.Workload
	Feeds map[string][]netip.Prefix
	Files []string

	inForce *policy.Set // Set, but for what is not enforced in read-only mode
}

// slow is how long files are read before somebody is told.
const slow = time.Second

// part is something that files say: the policies, or a feed. All that happens to
// it happens in turn, in one goroutine of its own: nothing that is read late
// takes the place of what is newer, and a disk that does not answer holds up
// nothing else.
type part struct {
	name  string
	watch *files.Watch
	// read returns how what was read gets into the whole, and when the same files
	// say something else.
	read func(now time.Time) (news, error)

	// guarded by the keeper's mu
	err   error     // of what was read last
	begun time.Time // when the reading began that goes on; zero if none does
}

// news is what a part has read.
type news struct {
	put   func(*Policies)
	until time.Time
}

// newParts lists what is read, the policies first.
func (k *Keeper) newParts() []*part {
	src := k.cfg.Source
	list := []*part{{name: "policies", watch: files.NewWatch(src.PolicyFiles), read: func(time.Time) (news, error) {
		read, err := src.LoadPolicies()
		if err != nil {
			return news{}, err
		}
		set := k.guarded(read.Set)
		inForce := set
		if k.cfg.Switches == nil {
			inForce = onlyStaged(set)
		}
		return news{put: func(p *Policies) { p.Set, p.inForce, p.Known, p.Files = set, inForce, read.Known, read.Files }}, nil
	}}}
	for _, name := range src.FeedNames() {
		watch := files.NewWatch(func() ([]string, error) { return src.FeedFiles(name) })
		list = append(list, &part{name: "feed " + name, watch: watch, read: func(now time.Time) (news, error) {
			feed, err := src.LoadFeed(name, now)
			return news{func(p *Policies) {
				p.Feeds = maps.Clone(p.Feeds)
				p.Feeds[name] = feed.Prefixes
			}, feed.Until}, err
		}})
	}
	return list
}

// guarded is the set with what the controller protects.
func (k *Keeper) guarded(set *policy.Set) *policy.Set {
	out := *set
	out.Protected = slices.Clone(set.Protected)
	for _, p := range k.cfg.Protected {
		out.Protected = append(out.Protected, policy.Peer{Prefix: p.Masked()})
	}
	return &out
}

// onlyStaged is the set with nothing enforced.
func onlyStaged(set *policy.Set) *policy.Set {
	out := *set
	out.Policies = slices.Clone(set.Policies)
	for i := range out.Policies {
		out.Policies[i].Mode = policy.ModeStaged
	}
	return &out
}

// take reads a part. Where it is at fault, what was read before stays.
func (k *Keeper) take(p *part) error {
	k.mu.Lock()
	p.begun = time.Now()
	k.mu.Unlock()
	got, err := files.Take(p.watch, func() (news, error) { return p.read(time.Now()) })
	k.mu.Lock()
	p.err, p.begun = err, time.Time{}
	if err == nil {
		read := *k.read
		got.put(&read)
		k.read = &read
	}
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read %s: %w", p.name, err)
	}
	p.watch.Again(got.until)
	k.Look()
	return nil
}

// follow reads a part whenever its files change.
func (k *Keeper) follow(ctx context.Context, p *part) {
	said := ""
	p.watch.Follow(ctx, func() {
		switch err := k.take(p); {
		case errors.Is(err, files.ErrChanging): // which is told when it goes on
		case err == nil:
			said = ""
			k.cfg.Log.WithField("what", p.name).Info("files that changed are in force")
			if p == k.parts[0] {
				k.warn()
			}
		case said != err.Error(): // a disk is tried again and again
			said = err.Error()
			k.cfg.Log.WithError(err).Error("files that changed cannot be used; what was read before stays in force")
		}
	}, func() {
		k.cfg.Log.WithField("what", p.name).Warn("files change all the time and are not read: what was read before stays in force")
	})
}

// Reload reads all files again at once, while Run runs; a part at fault stays as
// it was. It waits for the disk, at most until ctx ends.
func (k *Keeper) Reload(ctx context.Context) error {
	var faults []error
	for _, p := range k.parts {
		faults = append(faults, p.watch.Ask(ctx, func() error { return k.take(p) }))
	}
	return errors.Join(faults...)
}

// warn tells, once, of what is valid in policies and can hardly be meant. Lint
// may take long: what it judges is in force already.
func (k *Keeper) warn() {
	told := map[string]bool{}
	for _, f := range lint.Check(k.Policies().Set, lint.Options{Now: time.Now()}) {
		line := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
		if told[line] = true; f.Severity == lint.SeverityWarning && !k.warned[line] {
			k.cfg.Log.WithField("policy", f.Policy).Warn(line)
		}
	}
	k.warned = told
}

// waiting says since when what is being read is waited for, where that takes
// long; called with mu held.
func (k *Keeper) waiting(now time.Time) map[string]time.Time {
	var out map[string]time.Time
	for _, p := range k.parts {
		if p.begun.IsZero() || now.Sub(p.begun) < slow {
			continue
		}
		if out == nil {
			out = map[string]time.Time{}
		}
		out[p.name] = p.begun.UTC()
	}
	return out
}

// fault is what is wrong with the files; called with mu held.
func (k *Keeper) fault() error {
	var faults []error
	for _, p := range k.parts {
		if p.err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", p.name, p.err))
		}
	}
	return errors.Join(faults...)
}
