package intrusion

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	beaconPort    = 8000
	beaconTLSPort = 8443
	// jitter is the part of the interval by which a check-in may come early
	// or late.
	jitter = 0.2
	// beaconLimit bounds the check-ins of one play.
	beaconLimit = 3600
)

// Beacon lets the attacker call home, to the victim's node, which stands for
// the intruders' server: one HTTP request per interval, which is one over the
// stage's rate, give or take a fifth.
func Beacon(ctx context.Context, s *Stage) error { return s.beacon(ctx, "http", beaconPort) }

// BeaconTLS does the same over TLS.
func BeaconTLS(ctx context.Context, s *Stage) error { return s.beacon(ctx, "https", beaconTLSPort) }

func (s *Stage) beacon(ctx context.Context, scheme string, port uint16) error {
	home, err := s.open(s.Victim)
	if err != nil {
		return err
	}
	var own servers
	defer own.close()
	wrap, err := wrapping(scheme)
	if err != nil {
		return err
	}
	if err := own.web(home, port, wrap, command()); err != nil {
		return err
	}
	id := make([]byte, 8)
	for i := range id {
		id[i] = byte(s.Rand.UintN(256))
	}
	url := fmt.Sprintf("%s://%v/submit.php?id=%s", scheme, at(home, port), hex.EncodeToString(id))
	client := browser(s.attacker())
	every := time.Duration(float64(time.Second) / s.Rate)
	due := time.Now()
	for range s.limit(beaconLimit) {
		if err := agent.Wait(ctx, time.Until(due)); err != nil {
			return ended(ctx, err)
		}
		if err := s.charge(); err != nil {
			return err
		}
		s.checkIn(ctx, client, url, at(home, port).Port(), home)
		due = due.Add(time.Duration(float64(every) * (1 + jitter*(2*s.Rand.Float64()-1))))
		if now := time.Now(); due.Before(now) {
			due = now // nobody answered for long: no burst to make up for it
		}
	}
	return nil
}

// checkIn asks once what to do.
func (s *Stage) checkIn(ctx context.Context, client *http.Client, url string, port uint16, home *agent.Station) {
	from := s.attacker()
	a := agent.Action{
		Time: time.Now(), Agent: from.Node, Action: "check-in", From: from.Addr(), To: home.Addr(), Proto: "tcp", Port: port, Note: noAnswer,
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err == nil {
		if resp, err := client.Do(req); err == nil {
			n, _ := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
			_ = resp.Body.Close()
			a.Note, a.Bytes = "answered", uint64(n)
		}
	}
	s.Record(a)
}

// command is the intruders' server: there is never anything to do.
func command() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(make([]byte, 48))
	})
}

// wrapping is what a scheme puts round a listener; nothing for http.
func wrapping(scheme string) (func(net.Listener) net.Listener, error) {
	if scheme != "https" {
		return nil, nil
	}
	config, err := selfSigned()
	if err != nil {
		return nil, err
	}
	return func(l net.Listener) net.Listener { return tls.NewListener(l, config) }, nil
}
