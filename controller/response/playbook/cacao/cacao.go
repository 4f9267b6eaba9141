// Package cacao reads and writes playbooks of OASIS CACAO 2.0 (Committee
// Specification 01, November 2023), as far as both languages can say the same:
// manual, http-api and openc2-http commands, one after the other or in parallel.
// Whatever else there is in a playbook is refused by its name: a response that
// does half of what its author meant is worse than none.
package cacao

import (
	"encoding/json"
	"fmt"
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
		CreatedBy   string           `json:"created_by"`
		Created     string           `json:"created"`
		Modified    string           `json:"modified"`
		Start       string           `json:"workflow_start"`
		Exception   string           `json:"workflow_exception,omitempty"`
		Workflow    map[string]step  `json:"workflow"`
		Agents      map[string]agent `json:"agent_definitions,omitempty"`
		Targets     map[string]agent `json:"target_definitions,omitempty"`
	}
	step struct {
		Type         string    `json:"type"`
		Name         string    `json:"name,omitempty"`
		Description  string    `json:"description,omitempty"`
		Delay        int64     `json:"delay,omitempty"`   // ms before it
		Timeout      int64     `json:"timeout,omitempty"` // ms
		OnCompletion string    `json:"on_completion,omitempty"`
		OnSuccess    string    `json:"on_success,omitempty"`
		OnFailure    string    `json:"on_failure,omitempty"`
		Commands     []command `json:"commands,omitempty"`
		Agent        string    `json:"agent,omitempty"`
		Targets      []string  `json:"targets,omitempty"`
		NextSteps    []string  `json:"next_steps,omitempty"`
	}
	command struct {
		Type       string              `json:"type"`
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
)

// maxSize bounds a playbook, in bytes.
const maxSize = 4 << 20

func read(raw []byte) (*document, error) {
	if len(raw) > maxSize {
		return nil, fmt.Errorf("has more than %d bytes", maxSize)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
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
	if d.Exception != "" {
		return nil, fmt.Errorf("workflow_exception: steps for everything that goes wrong cannot be said here")
	}
	return &d, nil
}
