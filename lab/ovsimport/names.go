package ovsimport

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Keys of external_ids that are not labels.
const (
	labKey      = "platelet-lab"      // the runner's mark of what a lab owns
	nodeKey     = "platelet-node"     // the runner's, the node behind a port
	importedKey = "platelet-imported" // ours, the name on the imported host
)

// nameMax is the longest interface name that Linux takes.
const nameMax = 15

var unfit = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// fit makes a name that topology files, Open vSwitch's tools and the kernel
// all take: letters, digits, '_', '.' and '-', not beginning with one of the
// latter two, at most max characters. A name that fits stays as it is.
func fit(name string, max int) string {
	out := strings.TrimLeft(unfit.ReplaceAllString(name, "_"), ".-_")
	if out == "" {
		out = "x"
	}
	if out == name && len(out) <= max {
		return out
	}
	return hashed(out, name, max)
}

// hashed keeps the beginning of a name and makes the rest from what it stands
// for, so that it is unique and the same every time.
func hashed(name, of string, max int) string {
	sum := sha256.Sum256([]byte(of))
	return name[:min(len(name), max-7)] + "-" + hex.EncodeToString(sum[:3])
}

// prefixed is the name of something in the lab when names are not to collide
// with the live host's.
func prefixed(lab, name string) string {
	full := lab + "-" + name
	if out := fit(full, nameMax); out == full {
		return out
	}
	return hashed(fit(name, nameMax), full, nameMax)
}

// names gives each name once.
type names map[string]bool

func (n names) take(name string, max int) string {
	for salt := name; n[name]; {
		salt += "'"
		name = hashed(name, salt, max)
	}
	n[name] = true
	return name
}

// nicName is the name of a node's interface.
func nicName(name string) string { return fit(name, nameMax) }

// stableMAC makes up a hardware address that is the same every time.
func stableMAC(of string) string {
	sum := sha256.Sum256([]byte(of))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}

// carriable reports whether text survives a topology file and Open vSwitch's
// command line.
func carriable(text string) bool {
	return utf8.ValidString(text) && !strings.Contains(text, dirVariable) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// quoteOVS writes a string as OVSDB's text form has it.
func quoteOVS(s string) string {
	if plainOVS.MatchString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

var plainOVS = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// quoteShell makes one word for a shell, and for the runner's splitter.
func quoteShell(s string) string {
	if plainShell.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainShell = regexp.MustCompile(`^[A-Za-z0-9_.,:=/@%+-]+$`)
