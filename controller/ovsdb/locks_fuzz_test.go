package ovsdb

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// What a server sends, whatever it is, neither stops nor grows us.
func FuzzLockMessages(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"result":{"locked":true},"error":null}{"id":null,"method":"stolen","params":["a"]}`,
		`{"id":"echo","method":"echo","params":[]}{"id":null,"method":"locked","params":["a"]}`,
		`{"id":1,"result":null,"error":{"error":"syntax error"}}`,
		`{"id":{},"method":3}`,
	} {
		f.Add([]byte(seed))
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, raw []byte) {
		us, server := net.Pipe()
		go func() {
			defer server.Close()
			go io.Copy(io.Discard, server) // ends with the pipe
			_, _ = server.Write(raw)
		}()
		s := &Locks{log: log, poke: make(chan struct{}, 1), locks: map[string]*Lock{}}
		l := s.Lock("a")
		k := &lockSession{set: s, nc: us, sent: map[int]string{1: "a"}}
		received, failed, ended := make(chan lockMessage), make(chan error, 1), make(chan struct{})
		go func() { failed <- readMessages(us, received, ended) }()
		defer us.Close()
		for open := true; open; {
			select {
			case m := <-received:
				if k.handle(m) != nil {
					us.Close()
					close(ended)
					return
				}
			case <-failed:
				open = false
			case <-time.After(10 * time.Second):
				t.Fatal("hangs")
			}
		}
		if st, _ := l.State(); st != LockUnknown && st != LockHeld && st != LockOthers {
			t.Fatalf("state %v", st)
		}
	})
}
