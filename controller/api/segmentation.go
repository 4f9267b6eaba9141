package api

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/platelet-sdn/platelet/segmentation/recommend"
)

// Segmentation is what is shown of policies, and that they can be read again.
type Segmentation interface {
	// Policies is one JSON object; its shape is the controller's.
	Policies() any
	// Sources says at which ports source guards apply, and reads from the
	// switches what came in there with a foreign source.
	Sources(ctx context.Context) (any, error)
	// PolicyHits says what each rule met: by the switches, or by records where
	// nothing is enforced.
	PolicyHits(ctx context.Context) (any, error)
	// Staged is what policies would do to what is seen, and what they do; its
	// shape is the controller's.
	Staged() any
	// Recommend writes a policy that allows what was seen, as YAML.
	Recommend(o recommend.Options) ([]byte, error)
	// Workloads lists those that groups are resolved against.
	Workloads() any
	// ReloadPolicies reads the files again; a fault in them changes nothing.
	ReloadPolicies(ctx context.Context, who string) error
}

type recommendRequest struct {
	Internal      []netip.Prefix `json:"internal,omitempty"`
	MinConfidence float64        `json:"min_confidence,omitempty"`
}

type recommendReply struct {
	YAML string `json:"yaml"`
}

func (s *Server) recommend(r *http.Request) (any, error) {
	var q recommendRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.MinConfidence < 0 || q.MinConfidence >= 1 {
		return nil, &requestError{"min_confidence is not between 0 and 1"}
	}
	raw, err := s.ctl.Recommend(recommend.Options{Internal: q.Internal, MinConfidence: q.MinConfidence})
	return recommendReply{string(raw)}, err
}

// ReloadPolicies has the controller read its policies again.
func (c *Client) ReloadPolicies(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "policies/reload", struct{}{}, nil)
}

// Recommend has the controller write a policy of what it has seen, as YAML.
func (c *Client) Recommend(ctx context.Context, o recommend.Options) ([]byte, error) {
	var out recommendReply
	err := c.call(ctx, http.MethodPost, "policies/recommend", recommendRequest{o.Internal, o.MinConfidence}, &out)
	return []byte(out.YAML), err
}
