package agent_test

import (
	"os"
	"testing"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) {
	if os.Getenv(hereVar) != "" {
		// Started by a test to find out what it may do where it is.
		os.Exit(tryHere())
	}
	os.Exit(ovs.Isolate(m.Run))
}
