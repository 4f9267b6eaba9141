package learn

import (
	"math"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// Schema names the form of contexts; a log with another one teaches nothing.
const Schema = "context/1"

// Class groups kinds of findings that call for the same kind of answer.
type Class string

// The classes of findings.
const (
	ClassScan     Class = "scan"     // looks for hosts and services
	ClassSpread   Class = "spread"   // goes from host to host
	ClassFlood    Class = "flood"    // volume towards a victim
	ClassLogin    Class = "login"    // guesses passwords
	ClassOutbound Class = "outbound" // calls home, carries away
	ClassForgery  Class = "forgery"  // pretends to be somebody else
	ClassOther    Class = "other"
)

// Classes lists the classes.
func Classes() []Class {
	return []Class{ClassScan, ClassSpread, ClassFlood, ClassLogin, ClassOutbound, ClassForgery, ClassOther}
}

// ClassOf is the class of a kind of findings.
func ClassOf(k detector.Kind) Class {
	switch k {
	case detector.KindPortScan, detector.KindHostSweep, detector.KindARPSweep:
		return ClassScan
	case detector.KindWorm, detector.KindLateralMovement:
		return ClassSpread
	case detector.KindSYNFlood, detector.KindUDPFlood, detector.KindICMPFlood, detector.KindACKFlood, detector.KindAmplification:
		return ClassFlood
	case detector.KindBruteForce:
		return ClassLogin
	case detector.KindBeacon, detector.KindExfiltration, detector.KindDNSTunnel:
		return ClassOutbound
	case detector.KindARPSpoof, detector.KindIPSpoof, detector.KindMACFlood, detector.KindRogueDHCP:
		return ClassForgery
	}
	return ClassOther
}

// Context is what is known when a rung is chosen: numbers from 0 to 1, in the
// order of Features.
type Context []float64

// Features names the numbers of a context: one for each class of findings, of
// which one is 1, and then
//
//	doubt      1 - score x confidence of the finding
//	severity   low 0, medium 1/3, high 2/3, critical 1
//	victims    share of the 16 that a finding names at most
//	rate       packets per second of a flood, log10 over 7
//	spoofed    the sources are forged
//	impact     share of the ports with clients that depend on the host
//	work       n/(n+5) of n known-good conversations of the host
//	relapse    n/(n+1) of n containments of the target lately
func Features() []string {
	var out []string
	for _, c := range Classes() {
		out = append(out, string(c))
	}
	return append(out, "doubt", "severity", "victims", "rate", "spoofed", "impact", "work", "relapse")
}

// ContextOf takes a question's context.
func ContextOf(q response.Question) Context {
	f := &q.Finding
	var x Context
	for _, c := range Classes() {
		x = append(x, flag(ClassOf(f.Kind) == c))
	}
	severity := map[detector.Severity]float64{detector.SeverityMedium: 1, detector.SeverityHigh: 2, detector.SeverityCritical: 3}[f.Severity]
	x = append(x, 1-f.Score*f.Confidence, severity/3, float64(len(f.Victims))/16, math.Log10(1+max(0, f.Rate))/7, flag(f.Spoofed),
		q.Impact.Share(), share(q.Cost.Own, 5), share(q.Relapse, 1))
	for i, v := range x {
		if math.IsNaN(v) {
			v = 0
		}
		x[i] = min(1, max(0, v))
	}
	return x
}

// class is the class that the context names.
func (x Context) class() Class {
	for i, c := range Classes() {
		if i < len(x) && x[i] == 1 {
			return c
		}
	}
	return ClassOther
}

// fits reports whether the numbers are those of a context of today.
func (x Context) fits() bool {
	if len(x) != len(Features()) {
		return false
	}
	for _, v := range x {
		if !(v >= 0 && v <= 1) { // also where it is no number
			return false
		}
	}
	return true
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// share is n/(n+half).
func share(n, half int) float64 { return float64(n) / float64(n+half) }
