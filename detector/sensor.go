package detector

// sensor is a detector. It implements sensor and those of the interfaces below
// that it wants to be called for; all calls come from the engine's goroutine.
type sensor interface {
	// resolved tells that a finding of its own is over: the same, seen
	// again, is news.
	resolved(k findingKey)
}

// edgeSensor hears what happens between two hosts.
type edgeSensor interface {
	edge(ev *edgeEvent)
}

// windowSensor hears of each host's minute when it is over.
type windowSensor interface {
	window(w *Window)
}

// timeSensor is called when time has passed that it asked for. It returns when
// it wants to be called next, in engine time (math.MaxInt64: never).
type timeSensor interface {
	expire(now int64) int64
}

// sensors are the detectors behind conversations and windows, by what they
// listen to.
type sensors struct {
	edges   []edgeSensor
	windows []windowSensor
	times   []timeSensor
}

// constructors lists the detectors that listen to conversations, windows and
// time. The scan, address and flood tests see every record and are called by
// the engine itself.
func constructors() []func(*Engine) sensor {
	return []func(*Engine) sensor{
		func(e *Engine) sensor { return e.worm },
		func(e *Engine) sensor { return newLoginWatch(e) },
		func(e *Engine) sensor { return newLateralWatch(e) },
		func(e *Engine) sensor { return e.policy },
		func(e *Engine) sensor { return e.plant },
		newLearnedWatch,
		newPressWatch,
		func(e *Engine) sensor { return newBeaconWatch(e) },
		func(e *Engine) sensor { return newExfilWatch(e) },
		func(e *Engine) sensor { return newTunnelWatch(e) },
		newPingWatch,
		newSynWatch,
		newKnockWatch, // after those that have better names
		func(e *Engine) sensor { return e.anomaly },
	}
}

func newSensors(e *Engine) sensors {
	var s sensors
	for _, make := range constructors() {
		x := make(e)
		if y, ok := x.(edgeSensor); ok {
			s.edges = append(s.edges, y)
		}
		if y, ok := x.(windowSensor); ok {
			s.windows = append(s.windows, y)
		}
		if y, ok := x.(timeSensor); ok {
			s.times = append(s.times, y)
		}
	}
	return s
}

// wake makes the engine call time sensors at a time, if it is not going to
// earlier.
func (e *Engine) wake(at int64) { e.due = min(e.due, at) }
