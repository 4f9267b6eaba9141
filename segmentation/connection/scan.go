package connection

import (
	"iter"
	"net/netip"
)

// Sweep is what an opener tried, in distinct services of responders.
type Sweep struct {
	Answered, Unanswered int
}

// sweepLeast is how many services must not have answered before an opener is
// taken for one that tries what is there.
const sweepLeast = 10

// Scanning reports whether somebody tries what is there, rather than uses it:
// most of what it opens is not answered, and that is a lot. It is coarse, for
// reports: whether to act on it is for a detector to say.
func (s Sweep) Scanning() bool { return s.Unanswered >= sweepLeast && s.Unanswered > s.Answered }

// Sweeps counts what openers tried. What is sent to groups is not counted: nobody
// has to answer.
func Sweeps(all iter.Seq2[Key, *Connection]) map[netip.Addr]Sweep {
	out := map[netip.Addr]Sweep{}
	for k, c := range all {
		if !unicast(k.Responder) {
			continue
		}
		s := out[k.Opener]
		if c.Answered() {
			s.Answered++
		} else {
			s.Unanswered++
		}
		out[k.Opener] = s
	}
	return out
}

// Each yields the connections of a list.
func Each(list []Entry) iter.Seq2[Key, *Connection] {
	return func(yield func(Key, *Connection) bool) {
		for i := range list {
			if !yield(list[i].Key, &list[i].Connection) {
				return
			}
		}
	}
}
