package controller

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
)

// A change that concerns every host does not drown the log, but is counted there
// and told in full to whoever watches; what concerns all hosts is always told.
func TestNoticesAreBounded(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	events := 0
	x := &notices{log: log, publish: func(any) { events++ }}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	const hosts = 1000
	for i := range hosts {
		host := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		x.tell(detector.Notice{Time: at.UnixNano(), Host: host, What: detector.LearningPaused, Why: "it differs"})
	}
	x.tell(detector.Notice{Time: at.UnixNano(), What: detector.LearningDrift, Why: "all differ"})
	x.tell(detector.Notice{Time: at.Add(time.Minute).UnixNano(), Host: netip.MustParseAddr("10.0.0.1"), What: detector.LearningResumed, Why: "it is back"})
	have := out.String()
	if n := strings.Count(have, "it differs"); n != noticesPerMinute {
		t.Errorf("%d lines about hosts, want %d", n, noticesPerMinute)
	}
	for _, part := range []string{"all differ", "it is back", fmt.Sprintf("left_out=%d", hosts-noticesPerMinute)} {
		if !strings.Contains(have, part) {
			t.Errorf("the log lacks %q:\n%s", part, have)
		}
	}
	if events != hosts+2 {
		t.Errorf("%d events, want %d", events, hosts+2)
	}
}
