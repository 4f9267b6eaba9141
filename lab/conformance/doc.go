// Package conformance holds this project's reading of topology files against
// containerlab's own: its schema, its types and its links. It is a module of
// its own, so that containerlab's dependencies stay out of the product.
package conformance
