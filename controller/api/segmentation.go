package api

import "context"

// Segmentation is what is shown of policies, and that they can be read again.
type Segmentation interface {
	// Policies is one JSON object; its shape is the controller's.
	Policies() any
	// PolicyHits reads from the switches what each rule met.
	PolicyHits(ctx context.Context) (any, error)
	// Staged is what policies would do to what is seen, and what they do; its
	// shape is the controller's.
	Staged() any
	// Workloads lists those that groups are resolved against.
	Workloads() any
	// ReloadPolicies reads the files again; a fault in them changes nothing.
	ReloadPolicies(who string) error
}
