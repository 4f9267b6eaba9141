package response

import (
	"context"
	"time"
)

// Activity is when the last of an attack was seen behind a decision: the zero
// time where it has no rules any more, or none that are known.
func (m *Manager) Activity(ctx context.Context, id string) (at time.Time, err error) {
	err = m.do(ctx, func(context.Context, func()) error {
		if l := m.lives[id]; l != nil {
			at = l.activity
		}
		return nil
	})
	return at, err
}
