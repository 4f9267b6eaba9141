package strictyaml

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// pair is one key of a mapping with its value.
type pair struct {
	key, value *yaml.Node
}

// pairs lists a mapping's keys once each: duplicates are faults, and merge
// keys ("<<") add what the mapping itself does not say.
func (d *decoder) pairs(n *yaml.Node, path string, depth int) []pair {
	var own, merged []pair
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, "a key must be a single word, got %s", describe(key))
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, d.merge(value, path, depth+1)...)
			continue
		}
		if first := seen[key.Value]; first != nil {
			d.fail(n.Content[i], path, "key %q is already in line %d", key.Value, first.Line)
			continue
		}
		seen[key.Value] = n.Content[i]
		own = append(own, pair{n.Content[i], value})
	}
	for _, p := range merged {
		if k := resolve(p.key).Value; seen[k] == nil {
			seen[k] = p.key
			own = append(own, p)
		}
	}
	return own
}

// merge lists what a merge key brings: a mapping, or a list of them in which
// the earlier wins.
func (d *decoder) merge(n *yaml.Node, path string, depth int) []pair {
	if !d.enter(n, path, depth) {
		return nil
	}
	switch src := resolve(n); src.Kind {
	case yaml.MappingNode:
		out := d.pairs(src, path, depth)
		d.budget -= len(out)
		return out
	case yaml.SequenceNode:
		var out []pair
		for _, c := range src.Content {
			out = append(out, d.merge(c, path, depth+1)...)
			if d.budget <= 0 {
				return nil
			}
		}
		return out
	}
	d.fail(n, path, "a merge key needs a mapping, got %s", describe(resolve(n)))
	return nil
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, depth int) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "needs a mapping, got %s", describe(n))
		return
	}
	fields := fieldsOf(v)
	for _, p := range d.pairs(n, path, depth) {
		key := resolve(p.key).Value
		f, ok := fields.byName[key]
		if !ok {
			where := ""
			if path != "" {
				where = " in " + path
			}
			d.fail(p.key, "", "unknown key %q%s%s", key, where, didYouMean(key, fields.names))
			continue
		}
		d.value(p.value, f, join(path, key), depth+1)
		if d.budget <= 0 {
			return
		}
	}
}

type fields struct {
	names  []string
	byName map[string]reflect.Value
}

// fieldsOf lists a struct's settable fields by their YAML names; structs
// tagged inline, or embedded without a tag, count as the outer's.
func fieldsOf(v reflect.Value) fields {
	out := fields{byName: map[string]reflect.Value{}}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		tag, tagged := f.Tag.Lookup("yaml")
		name, opts, _ := strings.Cut(tag, ",")
		if name == "-" {
			continue
		}
		inline := opts == "inline" || f.Anonymous && !tagged
		if inline && f.Type.Kind() == reflect.Struct {
			sub := fieldsOf(v.Field(i))
			for _, n := range sub.names {
				out.add(n, sub.byName[n])
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name) // as yaml.v3 does
		}
		out.add(name, v.Field(i))
	}
	return out
}

func (f *fields) add(name string, v reflect.Value) {
	if _, ok := f.byName[name]; !ok {
		f.names = append(f.names, name)
	}
	f.byName[name] = v
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	if isNull(n) {
		v.SetZero()
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "needs a mapping, got %s", describe(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(n, path, depth) {
		before := len(d.errs)
		sub := join(path, resolve(p.key).Value)
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		d.value(p.key, k, sub, depth+1)
		d.value(p.value, e, sub, depth+1)
		if d.budget <= 0 {
			return
		}
		if len(d.errs) == before {
			out.SetMapIndex(k, e)
		}
	}
	v.Set(out)
}

// generic decodes without a type: map[string]any, []any and scalars.
func (d *decoder) generic(n *yaml.Node, path string, depth int) any {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		d.mapping(n, reflect.ValueOf(&out).Elem(), path, depth)
		return out
	case yaml.SequenceNode:
		var out []any
		d.slice(n, reflect.ValueOf(&out).Elem(), path, depth)
		return out
	case yaml.ScalarNode:
		var out any
		if err := n.Decode(&out); err != nil {
			d.fail(n, path, "%v", err)
		}
		return out
	}
	d.fail(n, path, "cannot decode %s", describe(n))
	return nil
}
