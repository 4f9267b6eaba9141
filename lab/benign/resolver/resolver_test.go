package resolver_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/lab/benign/resolver"
	"golang.org/x/net/dns/dnsmessage"
)

func TestAnswers(t *testing.T) {
	for kind, records := range map[dnsmessage.Type]int{dnsmessage.TypeA: 1, dnsmessage.TypeAAAA: 1, dnsmessage.TypeTXT: 1, dnsmessage.TypeMX: 0} {
		q, err := resolver.Query(77, "host-1.lab.example.", kind)
		if err != nil {
			t.Fatal(err)
		}
		b, err := resolver.Answer(q)
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := resolver.Reply(b); id != 77 || !ok {
			t.Errorf("%v: reply %d, %v", kind, id, ok)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if len(m.Answers) != records || len(m.Questions) != 1 || m.Questions[0].Type != kind {
			t.Errorf("%v: %+v", kind, m)
		}
		for _, a := range m.Answers {
			if body, ok := a.Body.(*dnsmessage.AResource); ok && !netip.MustParsePrefix("192.0.2.0/24").Contains(netip.AddrFrom4(body.A)) {
				t.Errorf("address %v is somebody's", body.A)
			}
		}
		if _, err := resolver.Answer(b); !errors.Is(err, resolver.ErrNoQuery) {
			t.Errorf("an answer was answered: %v", err)
		}
		if _, ok := resolver.Reply(q); ok {
			t.Error("a query counts as a reply")
		}
	}
	if _, err := resolver.Query(1, "no dot at the end", dnsmessage.TypeA); err == nil {
		t.Error("a name without its dot was taken")
	}
}

func FuzzAnswer(f *testing.F) {
	q, err := resolver.Query(1, "a.example.", dnsmessage.TypeTXT)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(q[:12])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := resolver.Answer(b)
		if err != nil {
			return
		}
		if _, ok := resolver.Reply(out); !ok {
			t.Errorf("% x was answered by what is no reply: % x", b, out)
		}
		if len(out) > 1232 {
			t.Errorf("answer of %d octets", len(out))
		}
	})
}
