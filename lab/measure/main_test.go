package measure_test

import (
	"os"
	"testing"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

// TestMain runs the tests in namespaces of their own: the labs' switches would
// otherwise exclude each other.
func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }
