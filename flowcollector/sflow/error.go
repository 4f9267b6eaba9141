package sflow

import "strconv"

// Kinds of Error. They are few and fixed, so that they can label a counter.
const (
	// KindHeader is a datagram shorter than its header.
	KindHeader = "header"
	// KindVersion is a version other than 5.
	KindVersion = "version"
	// KindAddress is an agent address that is neither IPv4 nor IPv6.
	KindAddress = "address"
	// KindSampleCount is a number of samples that cannot be in the datagram.
	KindSampleCount = "sample-count"
	// KindSample is a sample that is cut short.
	KindSample = "sample"
	// KindRecordCount is a number of records that cannot be in the sample.
	KindRecordCount = "record-count"
	// KindRecord is a flow or counter record that is cut short.
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
	return "sflow: bad " + e.Kind + " at byte " + strconv.Itoa(e.Offset)
}
