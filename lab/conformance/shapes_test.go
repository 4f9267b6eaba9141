package conformance

import (
	"encoding/json"
	"testing"

	"github.com/srl-labs/containerlab/exec"
	"github.com/srl-labs/containerlab/types"

	"github.com/platelet-sdn/platelet/lab/runner"
)

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestInspectHasContainerlabsShape fills one container of theirs and of ours.
func TestInspectHasContainerlabsShape(t *testing.T) {
	theirs := types.ContainerDetails{LabName: "l", LabPath: "p", AbsLabPath: "/p", Name: "clab-l-n", ContainerID: "id", Image: "i", Kind: "linux", Group: "g",
		State: "running", Status: "Up", IPv4Address: "172.20.20.2/24", IPv6Address: "3fff::2/64", Owner: "o"}
	ours := runner.Container{LabName: "l", LabPath: "p", AbsLabPath: "/p", Name: "clab-l-n", ContainerID: "id", Image: "i", Kind: "linux", Group: "g",
		State: "running", Status: "Up", IPv4Address: "172.20.20.2/24", IPv6Address: "3fff::2/64", Owner: "o"}
	if got, want := asJSON(t, ours), asJSON(t, theirs); got != want {
		t.Errorf("ours   %s\ntheirs %s", got, want)
	}
}

// TestExecHasContainerlabsShape compares results, with plain output and with
// output that is JSON itself.
func TestExecHasContainerlabsShape(t *testing.T) {
	for _, out := range []string{"plain\n", `{"k": [1, "x"]}`, "", "7"} {
		theirs := exec.ExecResult{Cmd: []string{"a", "b c"}, ReturnCode: 3, Stdout: exec.Stdout(out), Stderr: "e\n"}
		ours := runner.ExecResult{Cmd: []string{"a", "b c"}, ReturnCode: 3, Stdout: runner.Stdout(out), Stderr: "e\n"}
		if got, want := asJSON(t, ours), asJSON(t, theirs); got != want {
			t.Errorf("%q: ours   %s\ntheirs %s", out, got, want)
		}
	}
}
