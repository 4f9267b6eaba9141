package netflow

import "strconv"

// Kinds of Error. They are few and fixed, so that they can label a counter.
const (
	// KindHeader is a datagram shorter than its header.
	KindHeader = "header"
	// KindVersion is a version word that is not 5, 9 or 10.
	KindVersion = "version"
	// KindLength is a message length that the datagram contradicts.
	KindLength = "length"
	// KindSet is a set whose length is impossible.
	KindSet = "set"
	// KindTemplate is a template that is cut short or contradicts itself.
	KindTemplate = "template"
	// KindEmptyTemplate is a template whose records would have no octets.
	KindEmptyTemplate = "empty-template"
	// KindTemplateLimit is a template refused because of Limits.
	KindTemplateLimit = "template-limit"
	// KindRecord is a data record that is cut short.
	KindRecord = "record"
)

// Error says what made a datagram, or a part of it, unusable.
type Error struct {
	// Kind is one of the Kind constants.
	Kind string
	// Offset is where the offending part starts, in bytes from the start of
	// the datagram.
	Offset int
}

// Error implements the error interface.
func (e *Error) Error() string {
	return "netflow: bad " + e.Kind + " at byte " + strconv.Itoa(e.Offset)
}

func malformed(kind string, offset int) *Error { return &Error{Kind: kind, Offset: offset} }
