// Package oracle holds our OpenFlow codec against somebody else's: flows that
// we write to a real switch are read back with goloxi's decoder. It is a module
// of its own, so that goloxi stays a matter of tests.
//
// goloxi is right about flow statistics. It is not asked for what it keeps to
// itself (connection labels, whose type it does not export) or knows nothing of
// (the class of OXM_OF_PKT_REG), nor to encode: the lengths that it nests are
// wrong. ovs-ofctl is the oracle for those, in the package's own tests.
package oracle
