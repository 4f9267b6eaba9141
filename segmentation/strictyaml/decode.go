package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"time"

	"gopkg.in/yaml.v3"
)

// Unmarshaler is a type that decodes itself, strictly: what it decodes
// through the node is held to the same rules. A type may implement
// yaml.Unmarshaler instead, where position by node is enough.
type Unmarshaler interface {
	UnmarshalStrict(n Node) error
}

// Node is a value in a document.
type Node struct {
	dec   *decoder
	node  *yaml.Node
	path  string
	depth int
}

// Kind is the kind of the value; aliases are already resolved.
func (n Node) Kind() yaml.Kind { return n.node.Kind }

// Value is the text of a scalar.
func (n Node) Value() string { return n.node.Value }

// Decode decodes the node into out, a pointer of another type than the one
// that is unmarshalling.
func (n Node) Decode(out any) error {
	v := reflect.ValueOf(out)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("strictyaml: decode into %T: need a pointer", out)
	}
	sub := &decoder{file: n.dec.file, budget: n.dec.budget}
	sub.value(n.node, v.Elem(), n.path, n.depth+1)
	n.dec.budget = sub.budget
	return sub.errs.Err()
}

// Errorf makes a fault at the node.
func (n Node) Errorf(format string, args ...any) error {
	return n.dec.fault(n.node, n.path, format, args...)
}

type decoder struct {
	file   string
	errs   Errors
	budget int // nodes that may still be visited
}

func (d *decoder) fault(n *yaml.Node, path, format string, args ...any) *Error {
	msg := fmt.Sprintf(format, args...)
	if path != "" {
		msg = path + ": " + msg
	}
	return &Error{File: d.file, Line: n.Line, Column: n.Column, Msg: msg}
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, d.fault(n, path, format, args...))
	}
}

// adopt records an error of a type's own unmarshalling.
func (d *decoder) adopt(n *yaml.Node, path string, err error) {
	var many Errors
	var one *Error
	switch {
	case errors.As(err, &many):
		d.errs = append(d.errs, many...)
		d.errs = d.errs[:min(len(d.errs), maxErrors)]
	case errors.As(err, &one):
		if len(d.errs) < maxErrors {
			d.errs = append(d.errs, one)
		}
	default:
		d.fail(n, path, "%v", err)
	}
}

// enter accounts for one more node, and reports whether there was room.
func (d *decoder) enter(n *yaml.Node, path string, depth int) bool {
	if depth > maxDepth {
		d.fail(n, "", "nested more than %d deep", maxDepth)
		return false
	}
	d.budget--
	if d.budget == 0 {
		d.fail(n, "", "aliases multiply the document beyond reason")
	}
	return d.budget > 0
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	strictType   = reflect.TypeFor[Unmarshaler]()
	yamlType     = reflect.TypeFor[yaml.Unmarshaler]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// value decodes a node into v, which is settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	if !d.enter(n, path, depth) {
		return
	}
	n = resolve(n)
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			v.SetZero()
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, depth)
		return
	}
	if d.custom(n, v, path, depth) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	case reflect.Slice:
		d.slice(n, v, path, depth)
	case reflect.Interface:
		if v.NumMethod() > 0 {
			d.fail(n, path, "cannot decode into %s", v.Type())
			return
		}
		if x := d.generic(n, path, depth); x != nil {
			v.Set(reflect.ValueOf(x))
		} else {
			v.SetZero()
		}
	default:
		d.scalar(n, v, path)
	}
}

// custom decodes into types that know how, and durations.
func (d *decoder) custom(n *yaml.Node, v reflect.Value, path string, depth int) bool {
	ptr := v.Addr()
	switch t := ptr.Type(); {
	case t.Implements(strictType):
		if err := ptr.Interface().(Unmarshaler).UnmarshalStrict(Node{d, n, path, depth}); err != nil {
			d.adopt(n, path, err)
		}
	case t.Implements(yamlType):
		if err := ptr.Interface().(yaml.Unmarshaler).UnmarshalYAML(n); err != nil {
			d.adopt(n, path, err)
		}
	case t.Implements(textType):
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.fail(n, path, "needs a single value, got %s", describe(n))
		} else if err := ptr.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.fail(n, path, "%v", err)
		}
	case v.Type() == durationType:
		x, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.fail(n, path, "needs a duration such as 10s or 500ms, got %s", describe(n))
			return true
		}
		v.SetInt(int64(x))
	default:
		return false
	}
	return true
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.fail(n, path, "needs %s, got %s", want(v.Kind()), describe(n))
		return
	}
	tag := n.ShortTag()
	ok := true
	switch kind := v.Kind(); {
	case kind == reflect.String:
		// Whatever the scalar looks like, its text is what was written.
		v.SetString(n.Value)
	case kind == reflect.Bool:
		var x bool
		ok = tag == "!!bool" && n.Decode(&x) == nil
		v.SetBool(x)
	case v.CanInt():
		var x int64
		ok = tag == "!!int" && n.Decode(&x) == nil && !v.OverflowInt(x)
		v.SetInt(x)
	case v.CanUint():
		var x uint64
		ok = tag == "!!int" && n.Decode(&x) == nil && !v.OverflowUint(x)
		v.SetUint(x)
	case v.CanFloat():
		var x float64
		ok = (tag == "!!int" || tag == "!!float") && n.Decode(&x) == nil && !v.OverflowFloat(x)
		v.SetFloat(x)
	default:
		d.fail(n, path, "cannot decode into %s", v.Type())
		return
	}
	if !ok {
		d.fail(n, path, "needs %s, got %s", wantOf(v), describe(n))
	}
}

func (d *decoder) slice(n *yaml.Node, v reflect.Value, path string, depth int) {
	if isNull(n) {
		v.SetZero()
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "needs a list, got %s", describe(n))
		return
	}
	// Grown element by element: the document's size, not its claim, decides.
	out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 64))
	for i, c := range n.Content {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(c, e, fmt.Sprintf("%s[%d]", path, i), depth+1)
		if d.budget <= 0 {
			return
		}
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names a value the way its author sees it.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias of itself"
	case isNull(n):
		return "nothing"
	case len(n.Value) > 40:
		return fmt.Sprintf("%q…", n.Value[:40])
	}
	return fmt.Sprintf("%q", n.Value)
}

func want(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// wantOf adds the range where the range may be the trouble.
func wantOf(v reflect.Value) string {
	switch bits := v.Type().Bits; {
	case v.CanInt() && bits() < 64:
		return fmt.Sprintf("a whole number from %d to %d", -1<<(bits()-1), 1<<(bits()-1)-1)
	case v.CanUint() && bits() < 64:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<bits()-1)
	case v.CanUint():
		return "a whole number, not negative"
	}
	return want(v.Kind())
}
