package detector

import (
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
)

// circle is who talks to a service, or whom a client talks to by a service:
// the first few, which is enough to tell one from many.
type circle struct {
	first int64 // engine time
	met   [circleSize]uint32
	n     uint8
}

// circleSize is how many are told apart.
const circleSize = 4

// meet notes somebody by a hash.
func (c *circle) meet(hash uint32) {
	for _, m := range c.met[:c.n] {
		if m == hash {
			return
		}
	}
	if c.n < circleSize {
		c.met[c.n] = hash
		c.n++
	}
}

// circleKey names the clients of a service or, the other way round, the
// servers that a client finds it at.
type circleKey struct {
	who     address
	service uint64
	clients bool
}

// familiar knows how usual it is to talk to a service: what many use is less
// suspicious than what one uses alone, and who asks many for the same is a
// monitor.
type familiar struct {
	e       *Engine
	circles *bounded.Table[circleKey, circle]
	clients sketch // of the network
}

func newFamiliar(e *Engine) *familiar {
	f := &familiar{e: e}
	f.circles = bounded.New[circleKey](e.cfg.Limit.Edges, func(c *circle) int64 { return rank(int64(c.n), c.first) })
	return f
}

// asked notes that a client turned to a service of a server, answered that it
// got an answer. Once per edge is enough. Only clients that were answered are
// company: others can be invented.
func (f *familiar) asked(k contactKey) {
	f.meet(circleKey{k.src, k.service, false}, f.e.keys.address(k.dst))
}

func (f *familiar) answered(k contactKey) {
	client := f.e.keys.address(k.src)
	f.clients.put(client)
	f.meet(circleKey{k.dst, k.service, true}, client)
}

func (f *familiar) meet(k circleKey, hash uint64) {
	now := f.e.clock.now
	_, c, fresh := f.circles.Put(k, rank(1, now))
	if c == nil {
		return
	}
	if fresh {
		c.first = now
	}
	c.meet(uint32(hash))
}

// usage says how usual an edge is.
type usage struct {
	clients int     // of the service at this server, up to circleSize
	servers int     // that the client uses the service at, up to circleSize
	peers   float64 // clients of anything in the network, about
	age     int64   // since the service was first seen, nanoseconds
	news    bool    // the network was known before the service was
}

func (f *familiar) usage(k contactKey) usage {
	u := usage{clients: 1, servers: 1, peers: f.clients.estimate()}
	if _, c := f.circles.Find(circleKey{k.dst, k.service, true}); c != nil {
		u.clients, u.age = int(c.n), f.e.clock.now-c.first
		u.news = c.first > f.e.clock.start+int64(newsAfter)
	}
	if _, c := f.circles.Find(circleKey{k.src, k.service, false}); c != nil {
		u.servers = int(c.n)
	}
	return u
}

const (
	// manyClients and manyServers make a service a common one, and its client
	// a monitor.
	manyClients, manyServers = 3, 3
	// enoughPeers is how many clients a network must have for one that is
	// alone with a service to be odd.
	enoughPeers = 2.5
)

// newsAfter is how long a network is watched before a service is new: what was
// there before is met by then, more or less.
const newsAfter = 2 * time.Second

// few reports that hardly anybody uses the service, though there are others.
func (u usage) few() bool { return u.clients < manyClients && u.peers >= enoughPeers }

// lonely reports that nobody else uses the service, though there are others.
func (u usage) lonely() bool { return u.clients == 1 && u.peers >= enoughPeers }

// weigh says how suspicious the usage makes a client. A site outside has many
// addresses, so that being alone with one says less.
func (u usage) weigh(v *weighing, site bool) {
	switch {
	case u.servers >= manyServers:
		v.add("servers_asked_alike", float64(u.servers), manyServers, -4)
	case u.clients >= manyClients:
		v.add("clients_of_service", float64(u.clients), manyClients, -4)
	case u.lonely() && site:
		v.add("services_used_alone", 1, 0, 0.75)
	case u.lonely():
		v.add("services_used_alone", 1, 0, 1.5)
	}
}
