package replay

import (
	"net/netip"
	"strings"
)

// Class is what a label says of a connection.
type Class uint8

// What labels say.
const (
	ClassUnknown Class = iota
	ClassBenign
	ClassMalicious
)

// Label is the ground truth of one row of a labelled log. See Options.Label.
type Label struct {
	Input    string
	Time     int64 // the connection's begin, in Unix nanoseconds
	Duration int64 // in nanoseconds
	// Src is the originator and Dst the responder, with the ports and the IP
	// protocol of the row.
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8
	Class            Class
	// Text and Detail are as they stand in the log.
	Text, Detail string
}

// classify reads the label vocabularies of the labelled sets in wide use:
// Malicious, Benign and Background (Stratosphere), flow=From-Botnet-... and
// flow=From-Normal-... (CTU-13), 1, 0 and -1.
func classify(text string) Class {
	t := strings.ToLower(text)
	switch {
	case t == "1", t == "attack", strings.HasPrefix(t, "malicious"), strings.Contains(t, "from-botnet"):
		return ClassMalicious
	case t == "0", strings.HasPrefix(t, "benign"), t == "normal", strings.Contains(t, "from-normal"):
		return ClassBenign
	}
	return ClassUnknown
}
