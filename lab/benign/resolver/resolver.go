// Package resolver is a small DNS: it makes queries, and answers any that it
// understands, for names that exist nowhere else.
package resolver

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// Port is DNS's.
	Port = 53
	// ttl is how long answers are good for, in seconds; the lab's clients
	// keep none.
	ttl = 60
	// textSize is the length of a TXT answer in octets.
	textSize = 120
)

// ErrNoQuery says that a message is not a query to answer.
var ErrNoQuery = errors.New("no DNS query")

// Query makes a query for a name, which must end with a dot.
func Query(id uint16, name string, kind dnsmessage.Type) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("DNS name %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	out, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("DNS query for %q: %w", name, err)
	}
	return out, nil
}

// Answer answers a query with one question: an address from the blocks for
// documentation for A and AAAA, some text for TXT, no record for other
// types. Everything else is ErrNoQuery.
func Answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response || h.OpCode != 0 {
		return nil, ErrNoQuery
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 {
		return nil, ErrNoQuery
	}
	q := questions[0]
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: questions,
	}
	if body := record(q); body != nil {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl}, Body: body}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoQuery, err)
	}
	return out, nil
}

// record is what a name holds, the same every time.
func record(q dnsmessage.Question) dnsmessage.ResourceBody {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(q.Name.String()))
	n := sum.Sum64()
	switch q.Type {
	case dnsmessage.TypeA:
		return &dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(n)}} // RFC 5737
	case dnsmessage.TypeAAAA:
		return &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(n)}} // RFC 3849
	case dnsmessage.TypeTXT:
		text := strings.Repeat(fmt.Sprintf("%016x", n), textSize/16+1)
		return &dnsmessage.TXTResource{TXT: []string{text[:textSize]}}
	}
	return nil
}

// Reply reads whether a message answers a query without an error, and which.
func Reply(message []byte) (id uint16, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	return h.ID, err == nil && h.Response && h.RCode == dnsmessage.RCodeSuccess
}
