package response

import "context"

// laneLength bounds what may wait for one switch. Every decision waits for one
// answer at a time, so that it is reached only by more decisions than budgets
// allow.
const laneLength = 1024

// lanes carry requests to switches, each switch on a goroutine of its own: one
// that hangs keeps nobody else's containment waiting. Requests to the same
// switch, and so those of one owner, keep their order.
type lanes struct {
	run  func(func()) // starts a goroutine that Run waits for
	open map[string]chan task
	done chan func(context.Context) // what follows, on Run's goroutine
}

// task is a request to a switch and what follows from its answer.
type task struct {
	// ask runs beside Run and must not touch what is Run's.
	ask func(context.Context)
	// then runs on Run's goroutine.
	then func(context.Context)
}

func newLanes(run func(func())) *lanes {
	return &lanes{run: run, open: map[string]chan task{}, done: make(chan func(context.Context))}
}

// put queues a task for a switch; false means that too much waits already.
func (l *lanes) put(ctx context.Context, sw string, t task) bool {
	lane := l.open[sw]
	if lane == nil {
		lane = make(chan task, laneLength)
		l.open[sw] = lane
		l.run(func() { l.serve(ctx, lane) })
	}
	select {
	case lane <- t:
		return true
	default:
		return false
	}
}

func (l *lanes) serve(ctx context.Context, lane chan task) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-lane:
			t.ask(ctx)
			select {
			case l.done <- t.then:
			case <-ctx.Done():
				return
			}
		}
	}
}

// on asks a switch and goes on with then. Without Run, as in the tests of
// single steps, both happen before on returns. A switch for which too much waits
// already is not asked, and nothing follows: on returns false.
func (m *Manager) on(ctx context.Context, sw string, ask, then func(context.Context)) bool {
	if m.lanes == nil {
		ask(ctx)
		then(ctx)
		return true
	}
	if m.lanes.put(ctx, sw, task{ask, then}) {
		return true
	}
	m.overrun.Add(1)
	m.log.WithField("bridge", sw).Error(errBusySwitch)
	return false
}
