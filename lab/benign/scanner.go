package benign

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// scannerName is the behaviour of the licensed scanner.
const scannerName = "scanner"

const (
	// The scanner tries so many ports per second, on so many hosts, and then
	// rests.
	scannerRate  = 20
	scannerHosts = 4
	scannerRest  = 3 * time.Second
	// bannerLimit bounds what is read of a service's greeting, in octets, and
	// bannerTime how long it is waited for.
	bannerLimit = 256
	bannerTime  = 200 * time.Millisecond
)

// scannedPorts are what the licence covers. The ports of remote
// administration are not among them: attacks on those are told from benign
// traffic by the port.
func scannedPorts() []uint16 {
	return []uint16{
		21, 25, 53, 80, 81, 88, 110, 111, 113, 119, 135, 139, 143, 199, 389, 427, 465, 502, 513, 514, 515, 548, 554, 587, 631, 636, 873,
		990, 993, 995, 1025, 1026, 1110, 1433, 1720, 1723, 1755, 1883, 1900, 2000, 2049, 2121, 2717, 3000, 3128, 3306, 5000, 5009, 5051,
		5060, 5101, 5190, 5357, 5432, 5631, 5666, 5800, 5900, 6000, 6379, 6646, 7070, 8008, 8009, 8081, 8888, 9090, 9100, 9200, 11211,
	}
}

// Scanner is the node of a lab that scans because it is licensed to, in a
// profile's honest traffic; empty where none does. On the wire it is a scanner
// like any other, so that a controller has to be told.
func Scanner(lab *runner.Lab, profile string) string {
	p, err := find(profile)
	if err != nil || !slices.Contains(p.Behaviours, scannerName) {
		return ""
	}
	node, _ := (&Traffic{lab: lab}).scanner() // without a client there is no scanner
	return node
}

func (t *Traffic) scanner() (string, error) {
	nodes, err := t.nodes("app=scanner", "role=client")
	if err != nil {
		return "", err
	}
	return nodes[len(nodes)-1], nil
}

// furnishScanner lets app=scanner, or the last client (role=client), scan a
// few servers as a licensed vulnerability scanner does. A port that is closed
// has answered; only silence is harm.
func furnishScanner(t *Traffic, pace float64) error {
	scanner, err := t.scanner()
	if err != nil {
		return err
	}
	servers, err := t.nodes("role=server", "app=web")
	if err != nil {
		return err
	}
	a, err := t.actor(scannerName, scanner)
	if err != nil {
		return err
	}
	var hosts []peer
	for _, node := range servers {
		if node == scanner || len(hosts) == scannerHosts {
			continue
		}
		p, err := t.peer(node, "tcp", 0)
		if err != nil {
			return err
		}
		hosts = append(hosts, p)
	}
	if len(hosts) == 0 {
		return &lackError{[]string{"role=server"}}
	}
	gap := time.Duration(float64(time.Second) / scannerRate / pace)
	t.run(func(ctx context.Context) {
		for a.scan(ctx, hosts, gap) == nil {
			if agent.Wait(ctx, scannerRest) != nil {
				return
			}
		}
	})
	return nil
}

// scan goes over all hosts once.
func (a *actor) scan(ctx context.Context, hosts []peer, gap time.Duration) error {
	var open sync.WaitGroup
	defer open.Wait()
	for _, host := range hosts {
		ports := slices.Clone(scannedPorts())
		a.rand.Shuffle(len(ports), func(i, j int) { ports[i], ports[j] = ports[j], ports[i] })
		for _, port := range ports {
			if err := agent.Wait(ctx, gap); err != nil {
				return err
			}
			to := peer{host.node, netip.AddrPortFrom(host.addr.Addr(), port), "tcp"}
			open.Go(func() {
				a.exchange(ctx, "probe", to, patience, func(ctx context.Context) (int, error) { return a.tryPort(ctx, to) })
			})
		}
	}
	return nil
}

// tryPort connects and listens for a greeting.
func (a *actor) tryPort(ctx context.Context, to peer) (int, error) {
	c, err := a.dial(ctx, to)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bannerTime))
	n, _ := io.ReadFull(c, make([]byte, bannerLimit)) // most say nothing
	return n, nil
}
