package api

import (
	"context"
	"net/http"
	"time"
)

// Playbooks are those in force, and what people may do about them.
type Playbooks interface {
	Playbooks() PlaybookStatus
	// ReloadPlaybooks reads the files again. Where they have faults
	// (strictyaml.Errors), what was in force stays.
	ReloadPlaybooks(ctx context.Context, who string) (PlaybookStatus, error)
	// Runs are those of playbooks.
	Runs() any
}

// PlaybookStatus says which playbooks are in force.
type PlaybookStatus struct {
	// Version tells sets of playbooks apart; Playbooks is how many there are,
	// those that the program brings along included.
	Version   string    `json:"version"`
	Playbooks int       `json:"playbooks"`
	Files     []string  `json:"files,omitempty"`
	Loaded    time.Time `json:"loaded"`
	// Error is why files that have changed since are not in force, with file,
	// line and column of each fault, and Failed when that was seen.
	Error  string    `json:"error,omitempty"`
	Failed time.Time `json:"failed,omitzero"`
}

func (s *Server) reloadPlaybooks(r *http.Request) (any, error) {
	return s.ctl.ReloadPlaybooks(r.Context(), who(r))
}

// ReloadPlaybooks has the controller read its files of playbooks again.
func (c *Client) ReloadPlaybooks(ctx context.Context) (out PlaybookStatus, err error) {
	return out, c.call(ctx, http.MethodPost, "playbooks/reload", nil, &out)
}
