// Package runner brings containerlab topologies up on a bare machine: network
// namespaces for the nodes, veth pairs for the links, Open vSwitch and Linux
// bridges for the switches. It needs no Docker, takes a fraction of a second,
// and removes exactly what it made, also after a crash.
package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"time"
)

// SystemDB is the OVSDB endpoint of the machine's own Open vSwitch.
const SystemDB = "unix:/var/run/openvswitch/db.sock"

// DefaultStateDir is where running labs are recorded.
const DefaultStateDir = "/run/platelet/lab"

// Options say where and how a lab runs. The zero value is good.
type Options struct {
	// Name overrides the topology's name, so that one topology runs several
	// times side by side: namespaces, bridges and switch ports are then
	// named after it too.
	Name string
	// DB is the OVSDB endpoint; SystemDB when empty.
	DB string
	// StateDir is where running labs are recorded; DefaultStateDir when
	// empty.
	StateDir string
	// Program is run where a node's cmd, entrypoint or exec says /platelet or
	// platelet, which the lab image holds; our own executable when empty.
	Program string
	// Reconfigure takes a lab of the same name down first.
	Reconfigure bool
}

func (o Options) withDefaults() Options {
	if o.DB == "" {
		o.DB = SystemDB
	}
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir
	}
	if o.Program == "" {
		o.Program = "/proc/self/exe" // when even its path cannot be had
		if path, err := os.Executable(); err == nil {
			o.Program = path
		}
	}
	return o
}

// program translates the name of our own binary in the lab image, and that of
// a shell that small images have: Debian's sh is the same Almquist shell.
func (o Options) program(words []string) []string {
	if len(words) == 0 {
		return words
	}
	if ownProgram(words[0]) {
		return append([]string{o.Program}, words[1:]...)
	}
	if words[0] == "ash" || words[0] == "/bin/ash" {
		if _, err := exec.LookPath(words[0]); err != nil {
			return append([]string{"sh"}, words[1:]...)
		}
	}
	return words
}

func ownProgram(name string) bool { return name == labProgram || name == "/"+labProgram }

const (
	// labProgram is our binary in the lab image, by name.
	labProgram = "platelet"
	// markKey is the external_ids key, and the start of the interface
	// alias, by which things we made are known.
	markKey = "platelet-lab"
	// stopGrace is how long a node's processes may take to end.
	stopGrace = 300 * time.Millisecond
	// nameMax is the longest interface name Linux takes.
	nameMax = 15
)

// rename makes a name of at most 15 characters that is unique to a lab,
// recognisable by its beginning and the same every time.
func rename(lab, name string) string {
	sum := sha256.Sum256([]byte(lab + "/" + name))
	return name[:min(len(name), nameMax-7)] + "-" + hex.EncodeToString(sum[:3])
}
