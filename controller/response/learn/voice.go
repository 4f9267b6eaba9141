package learn

import "time"

// How many objections to decisions are learned from in a day: of one operator, and
// of all together. A decision has a reward for each that is made, so that fewer
// carry weight here than for the classifier (controller/learning), whose idea it is:
// no evening of clicking, and no stolen account, outweighs what was measured.
const (
	operatorPerDay   = 5
	objectionsPerDay = 15
)

// voice is an operator on a day, or everybody.
type voice struct {
	everybody bool
	who       string
	day       int64
}

// voices counts objections, and the withdrawal of those of others.
type voices map[voice]int

// heard reports whether another one is learned from, and counts it.
func (v voices) heard(who string, at time.Time) bool {
	day := at.Unix() / 86400
	one, all := voice{who: who, day: day}, voice{everybody: true, day: day}
	if v[one] >= operatorPerDay || v[all] >= objectionsPerDay {
		return false
	}
	v[one]++
	v[all]++
	for x := range v {
		if x.day < day-7 { // a day is over for all by then
			delete(v, x)
		}
	}
	return true
}
