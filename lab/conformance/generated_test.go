package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hellt/envsubst"
	"github.com/joho/godotenv"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// TestGeneratedTopologiesMeanTheSame draws topologies, valid and not, and
// compares what both readers make of them.
func TestGeneratedTopologiesMeanTheSame(t *testing.T) {
	both, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		doc := topology(t)
		data, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s", data)
		if compare(t, data) {
			both++
		} else {
			refused++
		}
	})
	t.Logf("%d taken by both, %d refused by both", both, refused)
	if both < 20 || refused < 5 {
		t.Errorf("%d taken and %d refused: the generator is lopsided", both, refused)
	}
}

type mapping = map[string]any

func nodeNames() []string { return []string{"a", "b", "c", "d-1"} }

func topology(t *rapid.T) mapping {
	names := nodeNames()[:rapid.IntRange(1, 4).Draw(t, "nodes")]
	nodes := mapping{}
	for _, n := range names {
		nodes[n] = definition(t, true)
		if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
			nodes[n] = nil
		}
	}
	top := mapping{"nodes": nodes, "links": linkList(t, names)}
	if rapid.Bool().Draw(t, "has defaults") {
		top["defaults"] = definition(t, false)
	}
	// Without a kind somewhere both readers refuse, at different times.
	def, _ := top["defaults"].(mapping)
	if def == nil {
		def = mapping{}
		top["defaults"] = def
	}
	if def["kind"] == nil || def["kind"] == "" {
		def["kind"] = "linux"
	}
	for key, valid := range map[string][]string{"kinds": {"linux", "bridge", "host"}, "groups": {"g", "h"}} {
		if rapid.Bool().Draw(t, key) {
			m := mapping{}
			for _, name := range valid {
				if rapid.Bool().Draw(t, name) {
					m[name] = definition(t, false)
				}
			}
			top[key] = m
		}
	}
	out := mapping{"name": "lab", "topology": top}
	if rapid.Bool().Draw(t, "has mgmt") {
		out["mgmt"] = mapping{"network": "net", "ipv4-subnet": "10.9.0.0/24", "ipv4-gw": "10.9.0.9", "mtu": 1400,
			"skip-when-unused": rapid.Bool().Draw(t, "skip"), "driver-opts": mapping{"a": "b"}}
	}
	spoil(t, out)
	return out
}

// spoil sometimes adds a key that does not exist.
func spoil(t *rapid.T, doc mapping) {
	top := doc["topology"].(mapping)
	switch rapid.IntRange(0, 60).Draw(t, "spoil") {
	case 19:
		for _, n := range top["nodes"].(mapping) {
			if m, ok := n.(mapping); ok {
				m["binds"] = []string{some(t, "bind", "x", "/f:/g:ro:z")}
			}
		}
	case 18:
		doc["nmae"] = "x"
	case 23:
		top["node"] = mapping{}
	case 26:
		for _, n := range top["nodes"].(mapping) {
			if m, ok := n.(mapping); ok {
				m["publish"] = "x"
			}
		}
	case 29:
		for _, l := range top["links"].([]any) {
			l.(mapping)["host-interfaces"] = "x"
		}
	case 32:
		for _, l := range top["links"].([]any) {
			l.(mapping)["type"] = "cable"
		}
	case 35:
		doc["mgmt"] = mapping{"subnet": "10.0.0.0/8"}
	}
}

func some(t *rapid.T, label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(t, label)
}

func list(t *rapid.T, label string, from ...string) []string {
	return rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(t, label)
}

func dict(t *rapid.T, label string) map[string]any {
	return rapid.MapOfN(rapid.SampledFrom([]string{"A", "B", "C"}),
		rapid.SampledFrom([]any{"x", "y", "", nil, 7, 1.5, true, "yes", "0x1F"}), 0, 3).Draw(t, label)
}

// definition draws what a node, kind, group or the defaults say.
func definition(t *rapid.T, node bool) mapping {
	all := map[string]func() any{
		"kind":           func() any { return some(t, "kind", "linux", "bridge", "host", "Linux", "") },
		"group":          func() any { return some(t, "group", "g", "h", "none", "") },
		"type":           func() any { return some(t, "type", "x", " y ", "") },
		"image":          func() any { return rapid.SampledFrom([]any{"alpine:3", "debian", "", nil, 3.2}).Draw(t, "image") },
		"entrypoint":     func() any { return some(t, "entrypoint", "sh -c", "") },
		"cmd":            func() any { return some(t, "cmd", "sleep 1", "") },
		"exec":           func() any { return list(t, "exec", "true", "false", "echo x") },
		"env":            func() any { return dict(t, "env") },
		"env-files":      func() any { return list(t, "env-files", "one", "two") },
		"labels":         func() any { return dict(t, "labels") },
		"binds":          func() any { return list(t, "binds", "/a:/b", "/c:/b:ro", "/d:/e", "/i:/j", "/k:/e:ro", ":/h") },
		"volumes":        func() any { return list(t, "volumes", "v:/b", "/c", "w:/b:ro") },
		"tmpfs":          func() any { return dict(t, "tmpfs") },
		"devices":        func() any { return list(t, "devices", "/dev/null", "/dev/zero") },
		"network-mode":   func() any { return some(t, "network-mode", "none", "host", "container:a", "") },
		"sysctls":        func() any { return dict(t, "sysctls") },
		"user":           func() any { return some(t, "user", "nobody", "1000", "") },
		"startup-config": func() any { return some(t, "startup-config", "f", "") },
		"license":        func() any { return some(t, "license", "f", "") },
		"startup-delay":  func() any { return rapid.IntRange(0, 3).Draw(t, "startup-delay") },
		"restart-policy": func() any { return some(t, "restart-policy", "no", "always", "") },
		"dns": func() any {
			return mapping{"servers": list(t, "servers", "1.1.1.1", "8.8.8.8"), "search": list(t, "search", "x.y")}
		},
		"certificate": func() any { return mapping{"issue": rapid.Bool().Draw(t, "issue"), "key-size": 2048} },
		"healthcheck": func() any { return mapping{"test": list(t, "test", "CMD", "true"), "interval": 1} },
		"stages":      func() any { return stages(t) },
		"privileged":  func() any { return rapid.SampledFrom([]any{true, false}).Draw(t, "privileged") },
		"ports":       func() any { return list(t, "ports", "80:80") },
		"cpu":         func() any { return 1.5 },
		"extras":      func() any { return mapping{"srl-agents": []string{"x"}} },
		"config":      func() any { return mapping{"vars": mapping{"a": 1}} },
		"credentials": func() any { return mapping{"username": "u"} },
		"hostname":    func() any { return "h" },
		"aliases":     func() any { return list(t, "aliases", "x", "y") },
	}
	if node {
		all["mgmt-ipv4"] = func() any { return "" }
	}
	out := mapping{}
	for key, draw := range all {
		switch rapid.IntRange(0, 400).Draw(t, key+"?") % 7 {
		case 0:
			out[key] = draw()
		case 1:
			if key == "startup-delay" || key == "mgmt-ipv4" {
				break // theirs cuts fractions off, and leaves addresses to Docker
			}
			if rapid.IntRange(0, 60).Draw(t, key+" odd") == 37 {
				out[key] = rapid.SampledFrom([]any{nil, "x", 7, 1.5, true, []any{"x"}, []any{nil}, mapping{"x": "y"}, mapping{}, []any{}}).Draw(t, "value")
			}
		}
	}
	return out
}

func stages(t *rapid.T) mapping {
	out := mapping{}
	for _, stage := range []string{"create", "create-links", "configure", "healthy", "exit"} {
		if rapid.IntRange(0, 2).Draw(t, stage) > 0 {
			continue
		}
		var waits, execs []any
		for range rapid.IntRange(0, 2).Draw(t, "waits") {
			waits = append(waits, mapping{"node": "a", "stage": some(t, "stage", "create", "configure", "healthy")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "execs") {
			e := mapping{"command": some(t, "command", "true", "echo x")}
			if rapid.Bool().Draw(t, "target?") {
				e["target"] = some(t, "target", "container", "host")
			}
			if rapid.Bool().Draw(t, "phase?") {
				e["phase"] = some(t, "phase", "on-enter", "on-exit")
			}
			execs = append(execs, e)
		}
		out[stage] = mapping{"wait-for": waits, "exec": execs}
	}
	return out
}

// linkList draws links whose interface names are unique: theirs refuses the
// others too, but only when it deploys.
func linkList(t *rapid.T, names []string) []any {
	out := []any{}
	for i := range rapid.IntRange(0, 4).Draw(t, "links") {
		a, b := some(t, "from", names...), some(t, "to", names...)
		end := func(node string, side int) mapping {
			m := mapping{"node": node, "interface": fmt.Sprintf("e%d-%d", i, side)}
			if rapid.Bool().Draw(t, "mac?") {
				m["mac"] = fmt.Sprintf("02:00:00:00:%02x:%02x", i, side)
			}
			if rapid.IntRange(0, 3).Draw(t, "ip?") == 0 {
				m["ipv4"] = some(t, "ip", "10.0.0.1/24", "10.0.0.2/24")
				m["vars"] = mapping{"x": 1}
			}
			return m
		}
		l := mapping{}
		if rapid.Bool().Draw(t, "mtu?") {
			l["mtu"] = rapid.SampledFrom([]int{1500, 9000}).Draw(t, "mtu")
		}
		switch kind := some(t, "kind", "brief", "brief", "to host", "veth", "veth to host", "host", "mgmt-net", "dummy", "macvlan", "vxlan", "brief", "veth", "host", "wrong"); kind {
		case "brief":
			l["endpoints"] = []string{fmt.Sprintf("%s:e%d-0", a, i), fmt.Sprintf("%s:e%d-1", b, i)}
			if rapid.Bool().Draw(t, "addresses") {
				l["ipv4"] = list(t, "ipv4", "10.0.0.1/24", "", "10.0.0.2/24", "fe80::1/64", "junk")
			}
		case "to host":
			ends := []string{fmt.Sprintf("%s:e%d-0", a, i), some(t, "special", "host", "mgmt-net", "macvlan") + fmt.Sprintf(":e%d-1", i)}
			if rapid.Bool().Draw(t, "swap") {
				ends[0], ends[1] = ends[1], ends[0]
			}
			l["endpoints"] = ends
		case "veth":
			l["type"], l["endpoints"] = some(t, "spelling", "veth", "VETH"), []any{end(a, 0), end(b, 1)}
		case "veth to host":
			l["type"], l["endpoints"] = "veth", []any{end(a, 0), end(some(t, "special", "host", "mgmt-net"), 1)}
		case "host", "mgmt-net", "macvlan":
			l["type"], l["endpoint"], l["host-interface"] = kind, end(a, 0), fmt.Sprintf("e%d-1", i)
		case "dummy":
			l["type"], l["endpoint"] = kind, end(a, 0)
		case "vxlan":
			l["type"], l["endpoint"], l["remote"], l["vni"] = some(t, "v", "vxlan", "vxlan-stitch"), end(a, 0), "10.0.0.9", 100
			if rapid.Bool().Draw(t, "port") {
				l["udp-port"] = 4789
			}
		case "wrong":
			l["type"], l["endpoints"] = some(t, "wrong", "host", "dummy", "veth"), []string{fmt.Sprintf("%s:e%d-0", a, i), fmt.Sprintf("%s:e%d-1", b, i)}
		}
		out = append(out, l)
	}
	return out
}

// TestVariablesMeanTheSame compares the substitution of variables on text
// that is dense with dollars and braces.
func TestVariablesMeanTheSame(t *testing.T) {
	t.Setenv("SET", "value")
	t.Setenv("EMPTY", "")
	part := rapid.SampledFrom([]string{"$SET", "$UNSET", "$EMPTY", "${SET}", "${UNSET}", "${EMPTY}", "${UNSET:-d}", "${SET:-d}", "${EMPTY:-d}",
		"${UNSET:=d e}", "${EMPTY:=d}", "${UNSET-d}", "${EMPTY-d}", "${SET+d}", "${UNSET+d}", "${SET:+d}", "${UNSET=d}", "${UNSET:-$SET}", "${UNSET:-/a/b:c}", "$$SET", "$$", "$1", "${1}",
		"$(date)", "$", "${", "}", "$_", "a", "_", "-", " "})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(part, 0, 6).Draw(t, "parts"), "")
		// Inside a quoted scalar of a comment nothing else gets in the way.
		doc := "name: lab\ntopology:\n  nodes:\n    a:\n      kind: linux\n      cmd: '" + text + "'\n"
		topo, ourErr := ours([]byte(doc))
		if ourErr != nil && strings.Contains(ourErr.Error(), "${") {
			return // nonsense that theirs does not notice, or never gets out of
		}
		want, theirErr := envsubst.BytesRestrictedNoReplace([]byte(doc), false, false, true, true)
		if (theirErr != nil) != (ourErr != nil) {
			t.Fatalf("%q: theirs %v, ours %v", text, theirErr, ourErr)
		}
		if theirErr == nil {
			if got := "'" + topo.Nodes[0].Cmd + "'"; !strings.Contains(string(want), "cmd: "+got+"\n") {
				t.Fatalf("%q: ours %s, theirs %s", text, got, want)
			}
		}
	})
}

// TestEnvFilesMeanTheSame compares the reading of env-files.
func TestEnvFilesMeanTheSame(t *testing.T) {
	line := rapid.SampledFrom([]string{"A=b", "B=", "export C=d e", "  D = x # y", "E='a # b'", `F="a\nb"`, `G="x\"y"`, "H=${A}", `I="$A-${B}"`, "J='$A'", "K: v", "# comment", "",
		"L=a#b", "M=\"two\nlines\"", `N=\$A`, "O=$(x)", "P=a=b", "lower=$A", "Q='it' # c", "R=\"\"", "S=$UNKNOWN.", "T.x=1", "U='a\\'b'"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(line, 0, 8).Draw(t, "lines"), "\n") + "\n"
		want, theirErr := godotenv.Unmarshal(text)
		got, ourErr := clab.ParseEnv(text)
		if (theirErr != nil) != (ourErr != nil) {
			t.Fatalf("%q: theirs %v, ours %v", text, theirErr, ourErr)
		}
		if theirErr == nil && fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q: ours %q, theirs %q", text, got, want)
		}
	})
}
