package policy

import _ "embed"

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema, draft 2020-12, of a policy file, for editors. It
// holds what can be seen of one file without knowing its names: Read is
// stricter.
func Schema() []byte { return schema }
