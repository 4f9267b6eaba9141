package measure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/measure"
)

func TestProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	p, err := measure.StartProcess(filepath.Join(dir, "log"), "sh", "-c", "trap 'exit 0' TERM; touch "+ready+"; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(ctx, func(context.Context) error { _, err := os.Stat(ready); return err }); err != nil {
		t.Error(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	p, err = measure.StartProcess(filepath.Join(dir, "log"), "sh", "-c", "echo config.yml:3:1: broken >&2; exit 2")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Ready(ctx, func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "config.yml:3:1: broken") {
		t.Errorf("got %v", err)
	}
	if err := p.Stop(); err == nil {
		t.Error("exit code 2 is no error")
	}
}
