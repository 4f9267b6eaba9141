package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Span is a measured duration, or the fact that there was none to measure: an
// attack that was not detected has no time to detect. In JSON it is in
// milliseconds, or null.
type Span struct {
	D time.Duration
	// OK is true when D was measured.
	OK bool
}

// Took is a span that was measured. What cannot be negative and is, by the
// few microseconds between two clock readings, is zero.
func Took(d time.Duration) Span { return Span{max(0, d), true} }

// Millis is the span in milliseconds, to the microsecond; 0 when there is
// none.
func (s Span) Millis() float64 { return millis(s.D) }

// MarshalJSON writes milliseconds or null.
func (s Span) MarshalJSON() ([]byte, error) {
	if !s.OK {
		return []byte("null"), nil
	}
	return json.Marshal(s.Millis())
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Span) UnmarshalJSON(raw []byte) error {
	*s = Span{}
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var ms float64
	if err := json.Unmarshal(raw, &ms); err != nil {
		return fmt.Errorf("duration in milliseconds: %w", err)
	}
	s.D, s.OK = time.Duration(math.Round(ms*1e3))*time.Microsecond, true
	return nil
}

// millis is a duration in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }

// String is for people: milliseconds, or "not".
func (s Span) String() string {
	if !s.OK {
		return "not"
	}
	return fmt.Sprintf("%.1f ms", s.Millis())
}
