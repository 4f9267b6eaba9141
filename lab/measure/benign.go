package measure

import (
	"context"
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/lab/runner"
)

// checkProfile refuses a profile that does not exist.
func checkProfile(name string) error {
	if name != "" && name != "default" {
		return fmt.Errorf("unknown profile %q", name)
	}
	return nil
}

// profileFor chooses the honest traffic that fits a lab.
func profileFor(*runner.Lab) string { return "default" }

// fared counts honest flows before, during and after an attack, when the fate
// of all of them is known.
func (s *session) fared(ctx context.Context, before, first, ended, after time.Time) (Benign, error) {
	loss, err := s.traffic.Loss(ctx)
	if err != nil {
		return Benign{}, err
	}
	d := loss.Sub(s.lost)
	s.lost = loss
	return Benign{During: Harm{
		Seconds: after.Sub(before).Seconds(), Flows: int(d.ProbesSent + d.RequestsSent), Harmed: int(d.Packets()), Lost: int(d.Packets()),
	}}, nil
}
