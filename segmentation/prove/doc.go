// Package prove tells what is true of policies for every connection there can
// be, and not only for those that somebody tried.
//
// Rules and groups cut the header space into finitely many classes: addresses
// that the same groups hold, services that the same rules name. What holds for
// one member of each class holds for all, also for addresses that nobody has.
// So a statement about 2^32 and 2^128 addresses is one about a few hundred
// classes, in the manner of header space analysis (Kazemian, Varghese,
// McKeown, NSDI 2012) with the atoms of Yang and Lam (Real-time verification
// of network properties using atomic predicates, ICNP 2013).
//
// Addresses that the same rules apply to share a profile: what these rules say,
// as disjoint rectangles of services and others. A connection needs a rectangle
// of each side, so that a statement about all connections is one about pairs of
// rectangles.
//
// A statement about some connections is judged in a space of its own, of what
// the rules that matter to it tell apart. So is a difference, of what the rules
// that came, went or moved can have changed. Pairs of classes are looked at 64
// at a time, and classes for which the answer is the same become one region
// (cross.go), so that it is no harm if every workload is a class by itself.
// BenchmarkDiff and BenchmarkVerify have the figures.
//
// Not judged is what is allowed whatever rules say (oracle.Implied), and an
// address's connections to itself, which no switch sees. Statements are about
// one time: schedules and ends of policies are as they are then. DiffOverTime
// goes through the times at which they differ.
package prove
