package openflow_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// Dial the local switch, and install a flow in one transaction.
func ExampleDial() {
	ctx := context.Background()
	c, err := openflow.Dial(ctx, "unix:/var/run/openvswitch/br0.mgmt")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	drop := openflow.Flow{Table: 7, Priority: 100, Match: openflow.Match{openflow.EthType(0x0806)}}
	if err := c.Commit(ctx, openflow.Tx{Flows: []openflow.FlowMod{{Flow: drop}}}); err != nil {
		fmt.Println(err) // says which member was refused, and why; nothing is left of it
	}
}

// Dial a switch that listens under mutual TLS, with the keys of ovs-pki.
func ExampleDialer_Dial() {
	d := openflow.Dialer{
		Timeout: 3 * time.Second,
		TLS:     openflow.TLS{CA: "switchca/cacert.pem", Certificate: "us-cert.pem", Key: "us-privkey.pem"},
	}
	c, err := d.Dial(context.Background(), "ssl:10.0.0.1:6653")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
}

// Await a switch that dials us, and become its master.
func ExampleDialer_Listen() {
	ctx := context.Background()
	l, err := openflow.Dialer{}.Listen(ctx, "ptcp:6653:10.0.0.9", func(from net.Addr, err error) { fmt.Println(from, err) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	c, err := l.Dial(ctx, 0x0000c2f1a5e0d84b)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := c.Lead(ctx, 12); err != nil {
		fmt.Println(err) // errors.Is(err, openflow.ErrStale): somebody leads with a newer generation
	}
}
