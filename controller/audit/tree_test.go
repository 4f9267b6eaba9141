package audit

import (
	"encoding/json"
	"math"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func verifiers(t testing.TB, keys ...string) note.Verifiers {
	t.Helper()
	var list []note.Verifier
	for _, k := range keys {
		v, err := note.NewVerifier(k)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...)
}

// Our right edge gives the roots that package tlog computes from all hashes.
func TestTreeIsThatOfTlog(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	var tr tree
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.hash(); got != want {
			t.Fatalf("root over %d: %s, want %s", n, got, want)
		}
		again, ok := tr.edge().tree()
		if !ok || again.hash() != want || again.size != n {
			t.Fatalf("the edge of %d is not one", n)
		}
		leaf := []byte{byte(n), byte(n >> 8)}
		more, err := tlog.StoredHashes(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		tr.add(tlog.RecordHash(leaf))
	}
}

func TestEdgeThatIsNone(t *testing.T) {
	for _, e := range []*Edge{nil, {Size: -1}, {Size: 1}, {Size: 2, Roots: make([]tlog.Hash, 2)}, {Size: math.MaxInt64}} {
		if _, ok := e.tree(); ok {
			t.Errorf("%+v passes for an edge", e)
		}
	}
}

// The examples of RFC 8785, sections 3.2.2 to 3.2.4 and appendix B.
func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`:                                        `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`: "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}",
		`[-0, 0.0, 1e21, 100, 9007199254740992, 5e-324, 1.7976931348623157e308, 123456789012345680000, 0.000001, 1e-7]`:                                                                                              `[0,0,1e+21,100,9007199254740992,5e-324,1.7976931348623157e+308,123456789012345680000,0.000001,1e-7]`,
		`"<&>` + "\u2028" + `"`: `"<&>` + "\u2028" + `"`,
	} {
		got, err := canonicalText([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s\nwant %s (%v)", in, got, want, err)
		}
	}
	for _, in := range []string{``, `{`, `1 2`, `1e999`, `{"a":1}x`} {
		if got, err := canonicalText([]byte(in)); err == nil {
			t.Errorf("%s passes as %s", in, got)
		}
	}
}

// What is canonical stays as it is, and means what was written.
func TestCanonicalAgain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := map[string]any{
			rapid.String().Draw(rt, "key"):  rapid.String().Draw(rt, "text"),
			rapid.String().Draw(rt, "more"): []any{finite(rapid.Float64().Draw(rt, "x")), rapid.Int32().Draw(rt, "n"), nil, true},
		}
		once, err := canonical(v)
		if err != nil {
			rt.Fatal(err)
		}
		twice, err := canonicalText(once)
		if err != nil || string(once) != string(twice) {
			rt.Fatalf("%s, then %s: %v", once, twice, err)
		}
		plain, err := json.Marshal(v)
		if err != nil {
			rt.Fatal(err)
		}
		var a, b map[string]any
		if json.Unmarshal(plain, &a) != nil || json.Unmarshal(once, &b) != nil || len(a) != len(b) {
			rt.Fatalf("%s became %s", plain, once)
		}
	})
}
