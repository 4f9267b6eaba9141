package actions

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/platelet-sdn/platelet/controller/durable"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

// The objects of STIX 2.1 (OASIS standard, 2021) that we write, with the
// properties that we give them.
type (
	bundle struct {
		Type    string `json:"type"`
		ID      string `json:"id"`
		Objects []any  `json:"objects"`
	}
	common struct {
		Type        string    `json:"type"`
		SpecVersion string    `json:"spec_version"`
		ID          string    `json:"id"`
		CreatedBy   string    `json:"created_by_ref,omitempty"`
		Created     stixTime  `json:"created"`
		Modified    *stixTime `json:"modified,omitempty"`
		Marking     []string  `json:"object_marking_refs,omitempty"`
	}
	identity struct {
		common
		Name  string `json:"name"`
		Class string `json:"identity_class"`
	}
	indicator struct {
		common
		Name        string      `json:"name"`
		Description string      `json:"description,omitempty"`
		Types       []string    `json:"indicator_types"`
		Pattern     string      `json:"pattern"`
		PatternType string      `json:"pattern_type"`
		ValidFrom   stixTime    `json:"valid_from"`
		ValidUntil  stixTime    `json:"valid_until"`
		Confidence  int         `json:"confidence"`
		References  []reference `json:"external_references,omitempty"`
	}
	sighting struct {
		common
		FirstSeen stixTime `json:"first_seen"`
		LastSeen  stixTime `json:"last_seen"`
		Count     int      `json:"count"`
		Of        string   `json:"sighting_of_ref"`
		By        []string `json:"where_sighted_refs"`
	}
	marking struct {
		common
		DefinitionType string            `json:"definition_type"`
		Name           string            `json:"name"`
		Definition     map[string]string `json:"definition"`
	}
	reference struct {
		Source string `json:"source_name"`
		ID     string `json:"external_id"`
	}
)

// stixTime is a timestamp in UTC with milliseconds (STIX 2.1, section 3.2).
type stixTime struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t stixTime) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// defaultValid is how long an indicator is valid without a word: addresses
// change hands.
const defaultValid = 24 * time.Hour

// intel writes a bundle as a file of its own. Written again it is the same.
func intel(c run.Call, i playbook.Intel) (string, error) {
	b, err := stix(c, i)
	if err != nil {
		return "", run.Permanent(err)
	}
	if b == nil {
		return "no address to tell of", nil
	}
	raw, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return "", run.Permanent(err)
	}
	name := filepath.Join(i.Dir, c.Key+".json")
	if err := durable.Write(name, 0o644, durable.Bytes(append(raw, '\n'))); err != nil {
		return name, err
	}
	_ = durable.SyncDir(i.Dir) // it is there; only a power cut could take it back
	return name, nil
}

// stix makes the bundle; nil where there is nobody to tell of.
func stix(c run.Call, i playbook.Intel) (*bundle, error) {
	f := &c.Facts.Finding
	pattern := pattern(c.Facts.Host)
	if pattern == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339Nano, f.Time)
	if err != nil {
		return nil, fmt.Errorf("time of the finding: %w", err)
	}
	first, err := time.Parse(time.RFC3339Nano, f.FirstSeen)
	if err != nil || first.After(at) {
		first = at
	}
	valid := i.Valid
	if valid == 0 {
		valid = defaultValid
	}
	tlp := markingOf(i.TLP)
	now := stixTime{at}
	us := identity{common: common{Type: "identity", SpecVersion: "2.1", ID: id("identity", "platelet"), Created: tlp.Created, Modified: &tlp.Created}, // the same in every bundle
		Name: "Platelet", Class: "system"}
	sdo := func(kind string) common {
		return common{Type: kind, SpecVersion: "2.1", ID: id(kind, c.Key), CreatedBy: us.ID, Created: now, Modified: &now, Marking: []string{tlp.ID}}
	}
	in := indicator{
		common: sdo("indicator"), Name: fmt.Sprintf("%s by %s", f.Kind, c.Facts.Host.Address), Description: f.Why, Types: []string{"malicious-activity"},
		Pattern: pattern, PatternType: "stix", ValidFrom: now, ValidUntil: stixTime{at.Add(valid)}, Confidence: int(math.Round(100 * min(1, max(0, f.Confidence)))),
	}
	if f.Technique != "" {
		in.References = []reference{{"mitre-attack", f.Technique}}
	}
	seen := sighting{common: sdo("sighting"), FirstSeen: stixTime{first}, LastSeen: now, Count: 1, Of: in.ID, By: []string{us.ID}}
	return &bundle{Type: "bundle", ID: id("bundle", c.Key), Objects: []any{tlp, us, in, seen}}, nil
}

// pattern matches the attacker by its address, or by its MAC where it has none.
func pattern(h playbook.HostFacts) string {
	a, err := netip.ParseAddr(h.Address)
	switch {
	case err == nil && a.Is4():
		return "[ipv4-addr:value = '" + a.String() + "']"
	case err == nil:
		return "[ipv6-addr:value = '" + a.WithZone("").String() + "']"
	case h.MAC != "":
		return "[mac-addr:value = '" + h.MAC + "']"
	}
	return ""
}

// markingOf is one of the definitions that the standard fixes (section 7.2.1.4);
// what is clear today was white then.
func markingOf(tlp string) marking {
	ids := map[string]string{
		"white": "613f2e26-407d-48c7-9eca-b8e91df99dc9", "green": "34098fce-860f-48ae-8e50-ebd3cc5e41da",
		"amber": "f88d31f6-486f-44da-b317-01333bde0b82", "red": "5e57c739-391a-4eb3-b6be-7d15ca92d5ed",
	}
	name := map[string]string{"clear": "white", "green": "green", "red": "red"}[tlp]
	if name == "" {
		name = "amber"
	}
	return marking{
		common:         common{Type: "marking-definition", SpecVersion: "2.1", ID: "marking-definition--" + ids[name], Created: stixTime{time.Date(2017, 1, 20, 0, 0, 0, 0, time.UTC)}},
		DefinitionType: "tlp", Name: map[string]string{"white": "TLP:WHITE", "green": "TLP:GREEN", "amber": "TLP:AMBER", "red": "TLP:RED"}[name], Definition: map[string]string{"tlp": name},
	}
}

// id is a UUID made of a name (RFC 9562, version 5), so that the same step gives
// the same object. The namespace is ours.
func id(kind, name string) string {
	const namespace = "6f1c2a52-5d9e-4f0e-9a57-8f1f0f0b6c11"
	sum := sha1.Sum([]byte(namespace + kind + name))
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%s--%x-%x-%x-%x-%x", kind, sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
