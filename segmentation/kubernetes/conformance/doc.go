// Package conformance holds our translation of Kubernetes' network policies,
// and what the oracle makes of it, against cyclonus: its generated cases, and
// what it says itself of every connection between the pods. It is a module of
// its own, so that Kubernetes' packages stay out of the product.
package conformance
