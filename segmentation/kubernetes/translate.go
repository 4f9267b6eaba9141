// Package kubernetes translates policies of Kubernetes into segmentation
// policies: NetworkPolicy of networking.k8s.io/v1, AdminNetworkPolicy and
// BaselineAdminNetworkPolicy of policy.networking.k8s.io/v1alpha1.
//
// Pods are workloads with the labels of Labels. A NetworkPolicy becomes
// np/NAMESPACE/NAME in the application tier, which allows, and for the pods
// that it isolates np/NAMESPACE/NAME/isolate, which denies after all that
// allow. An AdminNetworkPolicy becomes anp/NAME in the admin tier, with its
// priority, and a BaselineAdminNetworkPolicy banp/NAME in the baseline.
// So NetworkPolicies add up, what they isolate never reaches the baseline, and
// what nobody speaks of is allowed, as in a cluster.
package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// The priorities of NetworkPolicies in the application tier, and of the
// baseline: behind those that people give by hand, which decide first. All
// that allow stand before all that isolate.
const (
	firstAllow    = 1_000_000
	firstIsolate  = 2_000_000
	baseline      = 1_000_000
	maxAdminOrder = 1000
)

// Options are what files do not say.
type Options struct {
	// Mode of the policies; enforce if it is zero.
	Mode policy.Mode
	// Ports resolves the names of ports, which a cluster resolves for each
	// pod. A name that is not here is a fault.
	Ports map[string]policy.Service
}

// Note tells of something that is valid and means nothing.
type Note struct {
	strictyaml.Position
	Text string
}

// String is "file:line:column: text".
func (n Note) String() string { return n.Position.String() + ": " + n.Text }

// Is reports whether a file looks like one of resources of Kubernetes, by its
// first apiVersion.
func Is(data []byte) bool {
	m := firstVersion.FindSubmatch(data)
	return m != nil && (string(m[1]) == "v1" || strings.HasSuffix(string(m[1]), "networking.k8s.io/v1") || strings.HasPrefix(string(m[1]), "policy.networking.k8s.io/"))
}

var firstVersion = regexp.MustCompile(`(?m)^(?:- |  )*["']?apiVersion["']?:\s*["']?([A-Za-z0-9./-]+)`)

// Mixed translates the files of Kubernetes among some, all together, and
// leaves the others as they are.
func Mixed(opt Options, files []policy.Source) ([]policy.Source, []Note, error) {
	var own, foreign []policy.Source
	for _, f := range files {
		if Is(f.Data) {
			foreign = append(foreign, f)
		} else {
			own = append(own, f)
		}
	}
	if len(foreign) == 0 {
		return own, nil, nil
	}
	src, notes, err := Translate(opt, foreign...)
	return append(own, src), notes, err
}

// Translate translates files that belong together: all resources of a cluster
// that matter. What it returns is for policy.Read, alone or beside other
// files. The error is of type strictyaml.Errors when a file is at fault.
func Translate(opt Options, files ...policy.Source) (policy.Source, []Note, error) {
	if opt.Mode == 0 {
		opt.Mode = policy.ModeEnforce
	}
	t := &translator{opt: opt, at: map[string]strictyaml.Position{}, file: policy.File{APIVersion: policy.APIVersion, Groups: map[string]policy.Group{}}}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		docs, err := strictyaml.ParseAll(f.Name, f.Data)
		if err != nil {
			t.adopt(f.Name, err)
			continue
		}
		for _, doc := range docs {
			var r resource
			if err := doc.Decode(&r); err != nil {
				t.adopt(f.Name, err)
				continue
			}
			t.collect(origin{doc, ""}, &r)
		}
	}
	t.networks()
	t.admins()
	if err := t.errs.Err(); err != nil {
		return policy.Source{}, nil, err
	}
	return policy.Source{Name: strings.Join(names, ", "), File: &t.file, At: t.position}, t.notes, nil
}

// origin is a place in a document.
type origin struct {
	doc  *strictyaml.Doc
	path string
}

func (o origin) position() strictyaml.Position { return o.doc.Pos(o.path) }

// below is a place below it.
func (o origin) below(format string, args ...any) origin {
	path := fmt.Sprintf(format, args...)
	if o.path != "" && path != "" && path[0] != '[' {
		path = "." + path
	}
	return origin{o.doc, o.path + path}
}

// check is told of everything that must hold, with the path of the value.
type check func(ok bool, path, format string, args ...any)

// networkAt and adminAt are resources with their places.
type networkAt struct {
	origin
	*networkPolicy
}

type adminAt struct {
	origin
	*adminPolicy
}

type translator struct {
	opt     Options
	network []networkAt
	admin   []adminAt
	file    policy.File
	at      map[string]strictyaml.Position // of what was made, by its path
	notes   []Note
	errs    strictyaml.Errors
}

// adopt adds the faults of a file.
func (t *translator) adopt(file string, err error) {
	var many strictyaml.Errors
	if errors.As(err, &many) {
		t.errs = append(t.errs, many...)
		return
	}
	t.errs = append(t.errs, &strictyaml.Error{File: file, Line: 1, Column: 1, Msg: err.Error()})
}

const maxFaults = 50

// want checks what stands at a place.
func (t *translator) want(at origin) check {
	return func(ok bool, path, format string, args ...any) {
		if !ok && len(t.errs) < maxFaults {
			o := at.below("%s", path)
			t.errs = append(t.errs, o.doc.Errorf(o.path, format, args...))
		}
	}
}

func (t *translator) note(at origin, format string, args ...any) {
	t.notes = append(t.notes, Note{at.position(), fmt.Sprintf(format, args...)})
}

// position tells where that stands which became the value of a path.
func (t *translator) position(path string) strictyaml.Position {
	for path != "" {
		if at, ok := t.at[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return strictyaml.Position{File: "kubernetes", Line: 1, Column: 1}
}

func (t *translator) collect(at origin, r *resource) {
	switch {
	case r.network != nil:
		t.network = append(t.network, networkAt{at, r.network})
	case r.admin != nil:
		t.admin = append(t.admin, adminAt{at, r.admin})
	}
	for i := range r.items {
		t.collect(at.below("items[%d]", i), &r.items[i])
	}
}

var (
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	resourceForm  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
)

// named checks a resource's name, and that no other has it.
func (t *translator) named(at origin, seen map[string]origin, name string) {
	if first, taken := seen[name]; taken {
		t.want(at)(false, "metadata.name", "the name %s is taken in %s", name, first.position())
	}
	seen[name] = at
}

// put adds a policy, and where it comes from.
func (t *translator) put(p policy.Policy, at origin, rules map[policy.Direction][]origin) {
	path := fmt.Sprintf("policies[%d]", len(t.file.Policies))
	t.file.Policies = append(t.file.Policies, p)
	t.at[path] = at.position()
	for d, places := range rules {
		for i, o := range places {
			t.at[fmt.Sprintf("%s.%s[%d]", path, d, i)] = o.position()
		}
	}
}

// group adds a group, and where it comes from.
func (t *translator) group(name string, g policy.Group, at origin) policy.Peer {
	t.file.Groups[name] = g
	t.at["groups."+name] = at.position()
	return policy.Peer{Group: name}
}

// networks translates the NetworkPolicies, in the order of their names.
func (t *translator) networks() {
	seen := map[string]origin{}
	for i := range t.network {
		if meta := &t.network[i].Metadata; meta.Namespace == "" {
			meta.Namespace = "default"
		}
	}
	slices.SortStableFunc(t.network, func(a, b networkAt) int {
		return cmp.Or(cmp.Compare(a.Metadata.Namespace, b.Metadata.Namespace), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	for i, p := range t.network {
		want := t.want(p.origin)
		want(namespaceForm.MatchString(p.Metadata.Namespace), "metadata.namespace", "%q is not the name of a namespace", p.Metadata.Namespace)
		want(resourceForm.MatchString(p.Metadata.Name), "metadata.name", "%q is not the name of a resource", p.Metadata.Name)
		t.named(p.origin, seen, p.Metadata.Namespace+"/"+p.Metadata.Name)
		t.networkPolicy(p, i)
	}
}

// admins translates the AdminNetworkPolicies, and the baseline's.
func (t *translator) admins() {
	seen := map[string]origin{}
	orders := map[int64]origin{}
	slices.SortStableFunc(t.admin, func(a, b adminAt) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	for _, p := range t.admin {
		want := t.want(p.origin)
		want(resourceForm.MatchString(p.Metadata.Name), "metadata.name", "%q is not the name of a resource", p.Metadata.Name)
		want(p.Metadata.Namespace == "", "metadata.namespace", "%s belongs to no namespace", p.Kind)
		t.named(p.origin, seen, p.Kind+"/"+p.Metadata.Name)
		if p.Kind == "BaselineAdminNetworkPolicy" {
			want(p.Metadata.Name == "default", "metadata.name", "the only one is called default")
			want(p.Spec.Priority == nil, "spec.priority", "%s has none", p.Kind)
			t.adminPolicy(p, policy.TierBaseline, "banp", baseline)
			continue
		}
		if p.Spec.Priority == nil || *p.Spec.Priority < 0 || *p.Spec.Priority > maxAdminOrder {
			want(false, "spec.priority", "needs a number from 0 to %d", maxAdminOrder)
			continue
		}
		if first, taken := orders[*p.Spec.Priority]; taken {
			want(false, "spec.priority", "%d is taken in %s, and Kubernetes leaves open which decides first", *p.Spec.Priority, first.position())
		}
		orders[*p.Spec.Priority] = p.origin
		t.adminPolicy(p, policy.TierAdmin, "anp", int(*p.Spec.Priority))
	}
}
