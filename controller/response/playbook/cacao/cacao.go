// Package cacao reads and writes playbooks of OASIS CACAO 2.0 (Committee
// Specification 01, November 2023), as far as both languages can say the same:
// manual, http-api and openc2-http commands, one after the other or in parallel.
// Whatever else there is in a playbook is refused by its name: a response that
// does half of what its author meant is worse than none.
package cacao

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The parts of a CACAO playbook that are looked at.
type (
	document struct {
		Type        string           `json:"type"`
		SpecVersion string           `json:"spec_version"`
		ID          string           `json:"id"`
		Name        string           `json:"name"`
		Description string           `json:"description,omitempty"`
		Types       []string         `json:"playbook_types,omitempty"`
		Activities  []string         `json:"playbook_activities,omitempty"`
		CreatedBy   string           `json:"created_by"`
		Created     string           `json:"created"`
		Modified    string           `json:"modified"`
		Revoked     bool             `json:"revoked,omitempty"`
		From        time.Time        `json:"valid_from,omitzero"`
		Until       time.Time        `json:"valid_until,omitzero"`
		Start       string           `json:"workflow_start"`
		Exception   string           `json:"workflow_exception,omitempty"`
		Workflow    map[string]step  `json:"workflow"`
		Extensions  map[string]any   `json:"playbook_extensions,omitempty"`
		Agents      map[string]agent `json:"agent_definitions,omitempty"`
		Targets     map[string]agent `json:"target_definitions,omitempty"`
	}
	step struct {
		Type         string         `json:"type"`
		Name         string         `json:"name,omitempty"`
		Description  string         `json:"description,omitempty"`
		Delay        int64          `json:"delay,omitempty"`   // ms before it
		Timeout      int64          `json:"timeout,omitempty"` // ms
		OnCompletion string         `json:"on_completion,omitempty"`
		OnSuccess    string         `json:"on_success,omitempty"`
		OnFailure    string         `json:"on_failure,omitempty"`
		Commands     []command      `json:"commands,omitempty"`
		Agent        string         `json:"agent,omitempty"`
		Targets      []string       `json:"targets,omitempty"`
		NextSteps    []string       `json:"next_steps,omitempty"`
		Extensions   map[string]any `json:"step_extensions,omitempty"`
	}
	command struct {
		Type       string              `json:"type"`
		Activity   string              `json:"playbook_activity,omitempty"`
		Command    string              `json:"command,omitempty"`
		CommandB64 string              `json:"command_b64,omitempty"`
		Headers    map[string][]string `json:"headers,omitempty"`
		Content    string              `json:"content,omitempty"`
		ContentB64 string              `json:"content_b64,omitempty"`
	}
	agent struct {
		Type    string              `json:"type"`
		Name    string              `json:"name"`
		Address map[string][]string `json:"address,omitempty"`
		Port    string              `json:"port,omitempty"`
		Auth    string              `json:"authentication_info,omitempty"`
	}
)

const (
	typePlaybook = "playbook"
	version      = "cacao-2.0"

	stepStart    = "start"
	stepEnd      = "end"
	stepAction   = "action"
	stepParallel = "parallel"

	commandManual = "manual"
	commandHTTP   = "http-api"
	commandOpenC2 = "openc2-http"

	openC2Type = "application/openc2+json;version=1.0"

	// createdBy is who makes the playbooks that Export writes, and the bundles of
	// STIX that controller/actions does.
	createdBy = "identity--01c17cd4-0b1c-59a9-8ca2-01ef3972edeb"
)

// maxSize bounds a playbook, in bytes.
const maxSize = 4 << 20

func read(raw []byte, now time.Time) (*document, error) {
	if len(raw) > maxSize {
		return nil, fmt.Errorf("has more than %d bytes", maxSize)
	}
	var d document
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(raw, &d); {
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("%s is a JSON %s, which CACAO does not have there", cmp.Or(wrong.Field, "the whole"), wrong.Value)
	case err != nil:
		return nil, fmt.Errorf("is no JSON document: %w", err)
	}
	for _, p := range []struct{ name, value, want string }{
		{"type", d.Type, typePlaybook}, {"spec_version", d.SpecVersion, version}, {"id", d.ID, ""}, {"name", d.Name, ""}, {"created_by", d.CreatedBy, ""},
		{"created", d.Created, ""}, {"modified", d.Modified, ""}, {"workflow_start", d.Start, ""},
	} {
		if p.value == "" {
			return nil, fmt.Errorf("the property %s is missing", p.name)
		}
		if p.want != "" && p.value != p.want {
			return nil, fmt.Errorf("%s is %q, not %q", p.name, p.value, p.want)
		}
	}
	return &d, d.usable(now)
}

// usable refuses what its author does not want to be done, and what is about the
// whole of a playbook and would be lost.
func (d *document) usable(now time.Time) error {
	switch {
	case d.Revoked:
		return fmt.Errorf("revoked: its author has taken it back")
	case now.Before(d.From):
		return fmt.Errorf("valid_from: it is not to be used before %s", d.From.Format(time.RFC3339))
	case !d.Until.IsZero() && !now.Before(d.Until):
		return fmt.Errorf("valid_until: it was not to be used after %s", d.Until.Format(time.RFC3339))
	case d.Exception != "" && d.Workflow[d.Exception].Type != stepEnd: // an end is what follows here by itself
		return fmt.Errorf("workflow_exception %s: steps for everything that goes wrong cannot be said here", d.Exception)
	case len(d.Extensions) > 0:
		return fmt.Errorf("playbook_extensions: %s cannot be said here", slices.Sorted(maps.Keys(d.Extensions))[0])
	}
	for _, id := range slices.Sorted(maps.Keys(d.Workflow)) {
		s := d.Workflow[id]
		if s.OnCompletion != "" && (s.OnSuccess != "" || s.OnFailure != "") {
			return fmt.Errorf("%s: on_completion stands beside on_success or on_failure", id)
		}
		if len(s.Extensions) > 0 {
			return fmt.Errorf("%s: step_extensions: %s cannot be said here", id, slices.Sorted(maps.Keys(s.Extensions))[0])
		}
	}
	return nil
}
