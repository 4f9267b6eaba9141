package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule is a weekly time window. One that ends before it begins goes over
// midnight, and belongs to the day on which it began.
type Schedule struct {
	// Days on which it begins, mon to sun; every day if there are none.
	Days []Weekday `yaml:"days,omitempty"`
	// From is a time of day, "08:00"; all day if both are absent.
	From Clock `yaml:"from,omitempty"`
	// To is a time of day, up to "24:00"; before From it is that of the next day.
	To Clock `yaml:"to,omitempty"`
	// Zone is a name of the IANA time zone database; UTC if absent.
	Zone Zone `yaml:"zone,omitempty"`
}

// Weekday is a day of the week: mon, tue, wed, thu, fri, sat, sun.
type Weekday time.Weekday

// Clock is a time of day, "08:00", in minutes since midnight.
type Clock int

// Zone is a time zone by its name.
type Zone struct{ *time.Location }

// Covers reports whether the window is open at a time.
func (s *Schedule) Covers(now time.Time) bool {
	loc := time.UTC
	if s.Zone.Location != nil {
		loc = s.Zone.Location
	}
	now = now.In(loc)
	minute := Clock(now.Hour()*60 + now.Minute())
	today, yesterday := s.on(now.Weekday()), s.on((now.Weekday()+6)%7)
	if s.From == s.To { // all day
		return today
	}
	if s.From < s.To {
		return today && s.From <= minute && minute < s.To
	}
	return today && minute >= s.From || yesterday && minute < s.To
}

func (s *Schedule) on(d time.Weekday) bool {
	return len(s.Days) == 0 || slices.Contains(s.Days, Weekday(d))
}

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// String is the day's short name.
func (d Weekday) String() string { return dayNames[d] }

// MarshalText writes the short name.
func (d Weekday) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the short name.
func (d *Weekday) UnmarshalText(text []byte) error {
	i := slices.Index(dayNames[:], string(text))
	if i < 0 {
		return unknownWord("day", string(text), dayNames[:])
	}
	*d = Weekday(i)
	return nil
}

// String is "hh:mm".
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// MarshalText writes "hh:mm".
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads "hh:mm"; "24:00" is the end of the day.
func (c *Clock) UnmarshalText(text []byte) error {
	h, m, ok := strings.Cut(string(text), ":")
	hour, herr := strconv.ParseUint(h, 10, 8)
	minute, merr := strconv.ParseUint(m, 10, 8)
	if !ok || herr != nil || merr != nil || len(h) != 2 || len(m) != 2 || minute > 59 || hour*60+minute > 24*60 {
		return fmt.Errorf("%q is not a time of day such as 08:30", text)
	}
	*c = Clock(hour*60 + minute)
	return nil
}

// MarshalText writes the zone's name.
func (z Zone) MarshalText() ([]byte, error) {
	if z.Location == nil {
		return nil, nil
	}
	return []byte(z.String()), nil
}

// UnmarshalText reads the zone's name.
func (z *Zone) UnmarshalText(text []byte) error {
	loc, err := time.LoadLocation(string(text))
	if err != nil || string(text) == "Local" {
		return fmt.Errorf("%q is no time zone, such as Europe/Berlin", text)
	}
	z.Location = loc
	return nil
}
