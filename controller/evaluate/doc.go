// Package evaluate holds the detectors against labelled recordings and says, host
// by host, what they found, how late, and whom they wronged; always beside rules
// of one line, for a set on which those do as well proves nothing about a
// detector.
//
// # Terms
//
// A set is a recording with labels: of its flows (Zeek, Argus and the flow CSV
// carry them) or of its hosts (a labels file, see ReadLabels).
//
// An attacker is the originator of at least one malicious flow. It is found by
// the first finding that names it, at its first malicious flow or later; before
// that, a finding about it is false. The delay runs from its first malicious flow
// to the finding, in seconds of recorded time and in malicious flows that it had
// begun by then. Findings without an attacker, of forged sources, are true when
// they name a target of malicious flows.
//
// A benign host has benign flows and no malicious one. A false finding names
// one, however often, and counts each time it fires. Host-hours are those in
// which benign hosts began flows: every hour of the recording, or part of its
// last, counts once for each host that began a flow in it, which is less than
// hosts times hours, so that sets with many strangers look no better.
//
// A finding about a host whose flows are all without a label, or which began
// none, is neither true nor false: unjudged, and listed.
//
// A false containment is a finding that response.Propose would act on at
// default settings, whoever had to approve it, when it names a benign host as
// its target or, where it limits a victim's traffic, no target of malicious
// flows.
//
// # Sampling
//
// 1:1 gives the recording as it is. 1:N gives what sFlow at 1:N would have shown
// of it: every packet of a capture with probability 1/N, and of a log's flow each
// of its packets, spread evenly over its duration, as a packet of its own. What
// a log says about answers that never came is lost then, as it is live. tap+1:N
// adds what the connection tap of Platelet shows beside sFlow: the segments that
// open, refuse and end connections unsampled, datagrams and echoes at 3 %.
package evaluate
