package learning

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/platelet-sdn/platelet/detector/model"
)

// Whoever changes the registry beside a running controller, each change is told
// once, with who made it and why; what was there before the start is not.
func TestChangesAreTold(t *testing.T) {
	dir := t.TempDir()
	registry := OpenRegistry(dir)
	m := train(t, 2, nil)
	if _, err := registry.Add(m, "ann", "before the start"); err != nil {
		t.Fatal(err)
	}
	e := &engineSide{applied: make(chan struct{}, 100)}
	e.site = NewSite(dir, func(_, _ *model.Model) error { return nil }, quiet())
	var mu sync.Mutex
	var told []string
	e.site.OnChange(func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, c.What+" "+c.Who+" "+c.Why)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.site.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	e.await(t, "candidate", func() bool { return e.site.Status().Candidate == 1 })
	if err := registry.Promote(1, "ann", "it is better", true); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Rollback("bob", "it is not"); err != nil {
		t.Fatal(err)
	}
	want := []string{"promoted ann it is better", "rolled-back bob it is not"}
	e.await(t, "changes", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(told, want) })
}
