// Package audit writes down what the controller and its operators did, and
// why, so that nobody can change it later without being noticed.
//
// The log is a directory. Its files audit-N.jsonl, N being the number of their
// first entry, hold one JSON object a line, in canonical form (RFC 8785). Each
// line carries the hash of the line before it; the chain goes on over files.
// The hashes are the leaf hashes of RFC 6962, so that the log is a Merkle tree
// as well: the file checkpoints holds its root over the first n entries, signed
// (golang.org/x/mod/sumdb/note; the text is that of C2SP's tlog-checkpoint). The
// key stays in the state directory, its public half is in key.pub.
//
// What is proven: who changes, removes, inserts or moves a line breaks the
// chain, and who mends the chain up to the end breaks the checkpoints. Who also
// cuts the checkpoints off, or has the key, is found by a checkpoint that
// somebody else holds: once a minute the latest is logged, for a remote syslog to
// keep.
//
// Writing never holds the controller up: see Log.
package audit
