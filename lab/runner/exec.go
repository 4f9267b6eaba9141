package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"sync"
)

// ExecResult is what one command did in one node, in the shape of
// `containerlab exec -f json`.
type ExecResult struct {
	Cmd        []string `json:"cmd"`
	ReturnCode int      `json:"return-code"`
	Stdout     Stdout   `json:"stdout"`
	Stderr     string   `json:"stderr"`
}

// Stdout is what a command printed. In JSON it is itself when it is JSON, and
// a string otherwise, as containerlab has it.
type Stdout string

// MarshalJSON implements json.Marshaler.
func (s Stdout) MarshalJSON() ([]byte, error) {
	if json.Valid([]byte(s)) {
		return []byte(s), nil
	}
	return json.Marshal(string(s))
}

// AllLabels are a node's labels as containerlab would give them to its
// container: the file's and its own.
func (l *Lab) AllLabels(node string) (map[string]string, error) {
	n, err := l.state.node(node)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(n.Labels)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, n.Marks)
	return out, nil
}

// Match lists the nodes of kind linux that meet all conditions, each
// "label=value", "label!=value" or "label".
func (l *Lab) Match(conditions []string) ([]string, error) {
	var out []string
	for _, n := range l.state.Nodes {
		if !n.Container {
			continue
		}
		labels, err := l.AllLabels(n.Name)
		if err != nil {
			return nil, err
		}
		good := true
		for _, c := range conditions {
			key, value, equal := strings.Cut(c, "=")
			if k, ok := strings.CutSuffix(key, "!"); ok && equal {
				v, has := labels[k]
				good = good && (!has || v != value)
				continue
			}
			v, has := labels[key]
			good = good && has && (!equal || v == value)
		}
		if good {
			out = append(out, n.Name)
		}
	}
	return out, nil
}

// Exec runs commands, each a list of words, in several nodes at once, and
// returns what they did by the nodes' long names. A command that cannot be
// started is an error.
func (l *Lab) Exec(ctx context.Context, nodes []string, commands [][]string) (map[string][]ExecResult, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	out := map[string][]ExecResult{}
	room := make(chan struct{}, parallel)
	for _, name := range nodes {
		n, err := l.state.node(name)
		if err != nil {
			return nil, err
		}
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			for _, words := range commands {
				r, err := l.execOne(ctx, n, words)
				mu.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
				} else {
					out[n.LongName] = append(out[n.LongName], r)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func (l *Lab) execOne(ctx context.Context, n node, words []string) (ExecResult, error) {
	r := ExecResult{Cmd: words}
	if len(words) == 0 {
		return r, errors.New("the command is empty")
	}
	cmd, err := l.state.command(ctx, n, l.options, words)
	if err != nil {
		return r, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%q: %w", words, err)
	}
	r.ReturnCode, r.Stdout, r.Stderr = cmd.ProcessState.ExitCode(), Stdout(stdout.String()), stderr.String()
	return r, nil
}
