package main

import (
	"strings"
	"testing"
)

// What a rule is for comes from findings and people: it stays on its line.
func TestFlowsTextKeepsCommentsOnTheirLine(t *testing.T) {
	var out strings.Builder
	err := flowsText(&out, []byte(`[{"switch":"br0","meters":[{"text":"meter=5,pktps,bands=type=drop,rate=9","owner":"d-1","intent":"d-1/0"}],"groups":[],
		"rules":[{"table":"emergency","category":"emergency","flow":"priority=1,actions=drop","intent":"d-1/0","owner":"d-1","why":"a\nb","expires":"2026-11-23T10:00:00Z"}]},
		{"switch":"br1","meters":[],"groups":[],"rules":[{"table":"emergency","category":"miss","flow":"actions=resubmit(,202)"}]}]`))
	want := `# br0: 1 flows
# add-meter meter=5,pktps,bands=type=drop,rate=9  # used by d-1/0 of d-1
# br0: emergency
priority=1,actions=drop  # emergency d-1/0 of d-1: a b, until 2026-11-23T10:00:00Z
# br1: 1 flows
# br1: emergency
actions=resubmit(,202)  # miss
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestDriftTextAndExitCode(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		code      int
	}{
		{`[{"switch":"br0","drift":[]},{"switch":"br1","drift":null}]`, "", 0},
		{`[{"switch":"br0","drift":[{"kind":"different","what":"flow","table":"emergency","owner":"d-1","intent":"d-1/0","why":"scan","want":"W","have":"H"},
			{"kind":"missing","what":"meter","want":"M"}]}]`,
			"--- br0, wanted\n+++ br0, installed\n-W  # different flow emergency d-1/0 of d-1: scan\n+H  # different flow emergency d-1/0 of d-1: scan\n-M  # missing meter\n", 1},
		{`[{"switch":"br0","error":"gone","drift":null}]`, "# br0: gone\n", 2},
	} {
		var out strings.Builder
		if err := driftText(&out, []byte(c.raw)); err != nil || out.String() != c.want {
			t.Errorf("%v\n%s", err, out.String())
		}
		code, err := 0, driftError([]byte(c.raw))
		if err != nil {
			code = exitCode(err)
		}
		if code != c.code {
			t.Errorf("exit %d, %v: want %d", code, err, c.code)
		}
	}
}
