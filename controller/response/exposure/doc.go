// Package exposure keeps who talked with whom in the last hour, and how much: what
// an action would have hit had it stood that long.
//
// A conversation is a client, a server, a protocol and the server's port, whatever
// ports the client takes. Of each the ledger has connections, packets and bytes in
// both directions for each of the last 60 minutes of recorded time, scaled by the
// sampling rates, in a table that never holds more than Capacity of them: 21 MB, and
// next to nothing where few talk.
//
// Who is the client says package connection, as it does for policies, and so does it
// what of samples the tap told already. The table is another one: that of policies
// keeps eight times as many for a month, without minutes and with how each ended, in
// 50 MB, and drops what does not come back; with 60 minutes in every entry it would
// take 170. This one is of an hour, when the network is under attack.
//
// Where there is no room the table keeps what nobody can invent. A conversation is
// answered when its client goes on after the server spoke, which a forged source
// does not; one that is not answered never displaces one that is, but for one place
// in sixteen. Where all are answered the ingress port that has the most gives way:
// ports are what an attacker cannot have many of. What is displaced is counted on,
// by host, in a sketch that only errs upwards (count-min, Cormode and
// Muthukrishnan 2005), so that what the ledger does not list it still bounds.
//
// Of more than 100,000 packet samples a second it looks at some, which then stand for
// the others: what is best known of an hour needs the fewest.
//
// No packet counts twice. Volumes are those of flow export where a port has it, else
// of packet samples; the packets that open, refuse and close TCP connections are
// the tap's, as long as there is one, because it sees each of them. Where it is
// thinned for an attack that nobody contains, those that it sees stand for the others,
// in number: to whom those were is not known. Traffic tells the two apart.
package exposure
