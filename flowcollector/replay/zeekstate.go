package replay

import (
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Zeek describes a connection by conn_state and, letter by letter, by history
// (upper case: originator, lower case: responder):
//
//	S SYN   H SYN+ACK   A ACK   D data   F FIN   R RST   C bad checksum
//	G gap   T retransmission   W zero window   I inconsistent   Q SYN+FIN, SYN+RST
//
// The history is judged first. It says what was seen, while the states also
// hold guesses: RSTOS0 covers a lone RST, SH a lone FIN, S0 connections whose
// SYN+ACK the capture missed.

// isZeekState reports whether state is a conn_state.
func isZeekState(state string) bool {
	switch state {
	case "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH":
		return true
	}
	return false
}

// judgeZeek returns what a Zeek row proves about a TCP or UDP connection; history
// is empty where the log has none.
func judgeZeek(proto uint8, state, history string, sent, answered uint64) judgement {
	switch proto {
	case flow.ProtoTCP:
		if history != "" {
			return judgeTCPHistory(history, sent)
		}
		return judgeTCPState(state, sent, answered)
	case flow.ProtoUDP:
		if history != "" {
			return judgeUDP(
				strings.ContainsAny(history, "DCTG"),
				strings.ContainsAny(history, "dctg"))
		}
		if sent == 0 && answered == 0 { // not counted
			return judgeUDP(state == "SF" || state == "S0", state == "SF" || state == "SHR")
		}
		return judgeUDP(sent > 0, answered > 0)
	}
	return judgement{}
}

// judgeUDP judges a UDP conversation by who spoke.
func judgeUDP(originator, responder bool) judgement {
	switch {
	case originator && responder:
		return judgement{forward: flow.SignalAttempt, reverse: flow.SignalAccept}
	case originator:
		return judgement{forward: flow.SignalAttempt, reverse: flow.SignalSilence}
	}
	// Half a conversation: the capture did not see who asked.
	return judgement{}
}

func judgeTCPHistory(history string, sent uint64) judgement {
	j := judgement{
		forwardFlags: historyFlags(history, 'A'),
		reverseFlags: historyFlags(history, 'a'),
	}
	has := func(letters string) bool { return strings.ContainsAny(history, letters) }
	if has("h") {
		j.reverse = flow.SignalAccept
	}
	switch {
	case has("S"):
	case has("Q"), history == "r" && sent > 0:
		// A packet without a letter has no control bits.
		j.forward = flow.SignalProbe
		return j
	case history == "Fr":
		// A lone FIN may end a connection that Zeek had given up on, or be a
		// probe: that it was refused is for a detector to judge.
		j.forward, j.reverse = flow.SignalFinish, flow.SignalRefuse
		return j
	default:
		return j // midstream: its begin was not seen
	}
	switch {
	case has("h"):
	case has("r") && !has("AD"):
		j.reverse = flow.SignalRefuse
	case has("df") || has("a") && has("AD"):
		// The capture missed the SYN+ACK, but they talk.
		j.reverse = flow.SignalAccept
	case has("A"):
		// The originator acknowledges what we do not see: the capture has
		// one direction only and proves neither success nor failure.
		return j
	case !has("ar"):
		j.reverse = flow.SignalSilence
	}
	j.forward = flow.SignalAttempt
	return j
}

// historyFlags returns the control bits that one side's letters stand for; base
// is 'A' or 'a', the side's first letter.
func historyFlags(history string, base byte) uint8 {
	var flags uint8
	for i := range len(history) {
		switch history[i] - base + 'A' {
		case 'S':
			flags |= flow.SYN
		case 'H':
			flags |= flow.SYN | flow.ACK
		case 'A', 'D':
			flags |= flow.ACK
		case 'F':
			flags |= flow.FIN
		case 'R':
			flags |= flow.RST
		}
	}
	return flags
}

// judgeTCPState judges without a history, and abstains where the state could
// stand for a connection whose SYN was not seen.
func judgeTCPState(state string, sent, answered uint64) judgement {
	counted := sent > 0 || answered > 0
	switch state {
	case "SF", "S1", "S2", "S3", "RSTO", "RSTR":
		if counted && sent == 0 {
			return judgement{}
		}
		return accepted()
	case "REJ":
		return refused()
	case "S0":
		if answered == 0 {
			return silent()
		}
	case "RSTOS0", "SH":
		// A SYN and what ended it are two packets; one alone is a stray.
		if answered == 0 && sent != 1 {
			return silent()
		}
	}
	return judgement{}
}

func accepted() judgement {
	return judgement{flow.SignalAttempt, flow.SignalAccept, flow.SYN | flow.ACK, flow.SYN | flow.ACK}
}

func refused() judgement {
	return judgement{flow.SignalAttempt, flow.SignalRefuse, flow.SYN, flow.RST | flow.ACK}
}

func silent() judgement {
	return judgement{flow.SignalAttempt, flow.SignalSilence, flow.SYN, 0}
}
