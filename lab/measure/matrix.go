package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Matrix measures several labs, one after the other, and puts everything into
// one report. Flush, when not nil, is given the report after each attack, so
// that what there is survives whatever comes. What an earlier report already
// holds of a lab, attack by attack, is not measured again.
//
// A lab that cannot be measured does not end the others: its error stands in
// the report, and all of them are returned. With an error the report holds
// what had been measured until then.
func Matrix(ctx context.Context, report Report, labs []Config, flush func(Report) error) (Report, error) {
	var errs []error
	for _, c := range labs {
		errs = append(errs, c.Check())
	}
	if err := errors.Join(errs...); err != nil {
		return report, err
	}
	if flush == nil {
		flush = func(Report) error { return nil }
	}
	report.Schema, errs = Schema, nil
	for _, c := range labs {
		err := report.measure(ctx, c, flush)
		if ctx.Err() != nil {
			report.Interrupted = true
			return report, errors.Join(err, flush(report))
		}
		errs = append(errs, err)
	}
	return report, errors.Join(append(errs, flush(report))...)
}

// measure adds one lab to the report.
func (r *Report) measure(ctx context.Context, c Config, flush func(Report) error) error {
	name := c.labName()
	i := slices.IndexFunc(r.Labs, func(l Lab) bool { return l.Name == name })
	if i < 0 {
		i = len(r.Labs)
		r.Labs = append(r.Labs, Lab{Name: name, Attacks: []Attack{}})
	}
	earlier := r.Labs[i]
	earlier.Attacks = slices.DeleteFunc(slices.Clone(earlier.Attacks), func(a Attack) bool { return a.Error != "" })
	c.Attacks = slices.DeleteFunc(slices.Clone(c.Attacks), func(name string) bool {
		return slices.ContainsFunc(earlier.Attacks, func(a Attack) bool { return a.Name == name })
	})
	if len(c.Attacks) == 0 {
		return nil
	}
	merge := func(l Lab) {
		if l.Name == "" { // not even brought up
			l = earlier
			l.Attacks = nil
		}
		l.Attacks = append(slices.Clone(earlier.Attacks), l.Attacks...)
		r.Labs[i] = l
	}
	c.Done = func(l Lab) error {
		merge(l)
		return flush(*r)
	}
	l, err := Measure(ctx, c)
	merge(l)
	if err != nil {
		r.Labs[i].Error = err.Error()
		err = fmt.Errorf("lab %s: %w", name, err)
	}
	return err
}

// labName is what the lab will be called.
func (c Config) labName() string {
	switch {
	case c.Lab != nil:
		return c.Lab.Name()
	case c.Options.Name != "":
		return c.Options.Name
	}
	return c.Topology.Name
}
