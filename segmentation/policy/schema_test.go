package policy

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

type object = map[string]any

// The schema is made from the types and their comments:
//
//	UPDATE=1 go test ./segmentation/policy -run 'TestSchemaIsTheCode|TestReference'
func TestSchemaIsTheCode(t *testing.T) {
	g := generator{t, comments(t)}
	root := g.object(reflect.TypeFor[File]())
	root["$schema"], root["title"] = "https://json-schema.org/draft/2020-12/schema", "Platelet segmentation policies"
	root["$defs"] = object{
		"group": g.group(), "service": g.service(), "policy": g.policy(), "schedule": g.schedule(), "peer": g.peer(), "invariant": g.invariant(),
		"ingress": g.rule("from", "to"), "egress": g.rule("to", "from"),
	}
	properties := root["properties"].(object)
	properties["apiVersion"] = object{"const": APIVersion}
	root["required"] = []string{"apiVersion"}
	properties["groups"].(object)["propertyNames"] = object{"pattern": nameForm.String(), "maxLength": maxName, "not": object{"enum": append(AssetClasses(), Any)}}
	properties["services"].(object)["propertyNames"] = object{"pattern": nameForm.String(), "maxLength": maxName}
	properties["services"].(object)["additionalProperties"].(object)["minItems"] = 1
	guard := properties["sourceGuards"].(object)["items"].(object)
	guard["required"] = []string{"name", "mode", "appliesTo"}
	guard["properties"].(object)["name"] = object{"type": "string", "pattern": nameForm.String(), "maxLength": maxName}
	properties["protected"].(object)["items"] = object{"allOf": []any{object{"$ref": "#/$defs/peer"}, object{"not": object{"const": Any}}}}
	for _, key := range []string{"policies", "protected", "invariants", "sourceGuards"} { // of a file, these may be empty
		delete(properties[key].(object), "minItems")
	}
	raw, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "schema.json", append(raw, '\n'))
}

// same holds a file that is made from the code against the code.
func same(t *testing.T, path string, want []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != string(want) {
		t.Errorf("%s is not what the code says (%v); run the command above TestSchemaIsTheCode", path, err)
	}
}

// generator makes schemas of types.
type generator struct {
	t    *testing.T
	docs map[string]string
}

// object is the schema of a struct: its keys, and no others.
func (g generator) object(typ reflect.Type) object {
	properties := object{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		s := g.of(f.Type)
		if doc := g.docs[typ.Name()+"."+f.Name]; doc != "" {
			s["description"] = doc
		}
		properties[key] = s
	}
	return object{"type": "object", "additionalProperties": false, "properties": properties}
}

// of is the schema of a type as it stands in a file.
func (g generator) of(typ reflect.Type) object {
	if typ.Kind() == reflect.Pointer {
		return g.of(typ.Elem())
	}
	if s := g.named(typ); s != nil {
		return s
	}
	switch typ.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int:
		return object{"type": "integer", "minimum": 0, "maximum": maxPriority}
	case reflect.Uint8, reflect.Uint32:
		return object{"type": "integer", "minimum": 0, "maximum": uint64(1)<<typ.Bits() - 1}
	case reflect.Slice:
		return object{"type": "array", "items": g.of(typ.Elem()), "minItems": 1, "maxItems": maxList}
	case reflect.Map:
		values := g.of(typ.Elem())
		if typ.Elem().Kind() == reflect.String { // labels: what looks like a number is its text
			values = object{"type": []string{"string", "number", "boolean"}, "pattern": `^(\*|!\*|!?\*?!?[^!*]*)$`}
		}
		return object{"type": "object", "additionalProperties": values}
	case reflect.Struct:
		return g.object(typ)
	}
	g.t.Fatalf("no schema of %s", typ)
	return nil
}

func (g generator) named(typ reflect.Type) object {
	enum := func(w words) object {
		return object{"enum": slices.DeleteFunc(slices.Clone(w), func(s string) bool { return s == "" })}
	}
	ref := func(name string) object { return object{"$ref": "#/$defs/" + name} }
	switch typ {
	case reflect.TypeFor[Tier]():
		return enum(tierWords())
	case reflect.TypeFor[Mode]():
		return enum(modeWords())
	case reflect.TypeFor[Established]():
		return enum(establishedWords())
	case reflect.TypeFor[Action]():
		return enum(actionWords())
	case reflect.TypeFor[Risk]():
		return enum(riskWords())
	case reflect.TypeFor[Weekday]():
		return enum(dayNames[:])
	case reflect.TypeFor[Clock]():
		return object{"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"}
	case reflect.TypeFor[Zone]():
		return object{"type": "string", "minLength": 1}
	case reflect.TypeFor[Prefix]():
		return object{"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"}
	case reflect.TypeFor[flow.MAC]():
		return object{"type": "string", "pattern": "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"}
	case reflect.TypeFor[Proto]():
		return object{"anyOf": []any{object{"enum": slices.Sorted(maps.Keys(protoNames()))}, object{"type": "integer", "minimum": 1, "maximum": 255},
			object{"type": "string", "pattern": "^[1-9][0-9]{0,2}$"}}}
	case reflect.TypeFor[PortRange]():
		return object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": 65535}, object{"type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$"}}}
	case reflect.TypeFor[ServiceRef]():
		return object{"anyOf": []any{object{"type": "string", "pattern": nameForm.String()}, ref("service")}}
	case reflect.TypeFor[Term](): // "not" and a peer is a text as well
		return ref("peer")
	case reflect.TypeFor[Group](), reflect.TypeFor[Service](), reflect.TypeFor[Policy](), reflect.TypeFor[Schedule](), reflect.TypeFor[Peer](), reflect.TypeFor[Invariant]():
		return ref(strings.ToLower(typ.Name()))
	}
	return nil
}

// has is the schema of objects with a key.
func has(keys ...string) object { return object{"required": keys} }

// is is the schema of objects whose key has one of some values.
func is(key string, values ...string) object {
	return object{"properties": object{key: object{"enum": values}}, "required": []string{key}}
}

func (g generator) peer() object {
	return object{"anyOf": []any{
		object{"type": "string", "minLength": 1},
		object{"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "properties": object{
			"group": object{"type": "string", "minLength": 1}, "ip": g.of(reflect.TypeFor[Prefix]()), "cidr": g.of(reflect.TypeFor[Prefix]())}},
	}}
}

func (g generator) invariant() object {
	s := g.object(reflect.TypeFor[Invariant]())
	properties := s["properties"].(object)
	properties["name"] = object{"type": "string", "pattern": policyForm.String(), "maxLength": maxName}
	properties["description"].(object)["maxLength"] = maxText
	properties["description"].(object)["pattern"] = `^[^\x00-\x1f\x7f]*$`
	s["required"] = []string{"name"}
	s["oneOf"] = []any{has("deny"), has("allow")}
	return s
}

func (g generator) group() object {
	s := g.object(reflect.TypeFor[Group]())
	s["properties"].(object)["selector"].(object)["minProperties"] = 1
	says := []any{has("selector"), has("ports"), has("macs"), has("cidrs"), has("risk"), has("intel")}
	s["oneOf"] = []any{object{"anyOf": says, "not": has("groups")}, object{"required": []string{"groups"}, "not": object{"anyOf": append(says, has("during"))}}}
	return s
}

func (g generator) schedule() object {
	s := g.object(reflect.TypeFor[Schedule]())
	s["anyOf"] = []any{has("days"), has("from"), has("to")}
	s["properties"].(object)["days"].(object)["uniqueItems"] = true
	return s
}

func (g generator) service() object {
	s := g.object(reflect.TypeFor[Service]())
	numbers := func(p ...Proto) []any {
		var out []any
		for _, p := range p {
			out = append(out, p.String(), int(p), fmt.Sprint(int(p)))
		}
		return out
	}
	of := func(p ...Proto) object {
		return object{"properties": object{"proto": object{"enum": numbers(p...)}}}
	}
	s["required"] = []string{"proto"}
	s["allOf"] = []any{
		object{"if": has("ports"), "then": of(Proto(flow.ProtoTCP), Proto(flow.ProtoUDP), Proto(flow.ProtoSCTP))},
		object{"if": has("type"), "then": of(Proto(flow.ProtoICMP), Proto(flow.ProtoICMPv6))},
	}
	s["dependentRequired"] = object{"code": []string{"type"}}
	return s
}

func (g generator) policy() object {
	s := g.object(reflect.TypeFor[Policy]())
	properties := s["properties"].(object)
	properties["name"] = object{"type": "string", "pattern": policyForm.String(), "maxLength": maxName}
	properties["description"].(object)["maxLength"] = maxText
	properties["description"].(object)["pattern"] = `^[^\x00-\x1f\x7f]*$`
	properties["origin"].(object)["required"] = []string{"decision"}
	properties["ingress"].(object)["items"] = object{"$ref": "#/$defs/ingress"}
	properties["egress"].(object)["items"] = object{"$ref": "#/$defs/egress"}
	s["required"] = []string{"name", "tier", "mode", "appliesTo"}
	s["anyOf"] = []any{has("ingress"), has("egress")}
	s["if"], s["then"] = is("tier", TierEmergency.String()), has("expiresAt")
	return s
}

// rule is the schema of a rule that speaks of its peers by one key.
func (g generator) rule(by, not string) object {
	s := g.object(reflect.TypeFor[Rule]())
	properties := s["properties"].(object)
	properties["name"] = object{"type": "string", "pattern": ruleForm.String(), "maxLength": maxName}
	properties["mirror"].(object)["pattern"] = placeForm.String()
	delete(properties, not)
	rate := properties["rate"].(object)
	for _, key := range []string{"pktps", "kbps"} {
		rate["properties"].(object)[key].(object)["minimum"] = 1
	}
	rate["oneOf"] = []any{has("pktps"), has("kbps")}
	s["required"] = []string{"name", "action", by}
	s["if"], s["then"], s["else"] = is("action", ActionRateLimit.String()), has("rate"), object{"not": has("rate")}
	return s
}

// comments reads the comments of types and of their fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, name := range []string{"policy.go", "schedule.go", "inventory.go", "text.go", "invariant.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			spec, _ := gen.Specs[0].(*ast.TypeSpec)
			docs[spec.Name.Name] = strings.Join(strings.Fields(gen.Doc.Text()), " ")
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, n := range f.Names {
					docs[spec.Name.Name+"."+n.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
	}
	return docs
}
