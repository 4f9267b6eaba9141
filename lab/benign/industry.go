package benign

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

const (
	modbusPort = 502
	mqttPort   = 1883
	// How often masters poll each controller: operators' panels, the
	// historian, the engineering station.
	hmiEvery, historianEvery, engineeringEvery = 500 * time.Millisecond, time.Second, 2 * time.Second
	// registers is how many 16-bit registers a poll reads.
	registers = 16
	// telemetryEvery is how often a sensor reports.
	telemetryEvery = 2 * time.Second
	// rpcEvery is how often a server calls one of the next tier.
	rpcEvery = 100 * time.Millisecond
)

// conversation is a connection that is kept, over which a client asks again
// and again.
type conversation struct {
	*actor
	to    peer
	greet func(c net.Conn) error // nil where nothing comes first
	conn  net.Conn
}

// ask makes one exchange over the connection, which is made again after a
// failure.
func (v *conversation) ask(ctx context.Context, what string, say func(c net.Conn) (int, error)) {
	v.exchange(ctx, what, v.to, patience, func(ctx context.Context) (int, error) {
		n, err := v.try(ctx, say)
		if err != nil {
			v.hangUp()
		}
		return n, err
	})
}

func (v *conversation) try(ctx context.Context, say func(c net.Conn) (int, error)) (int, error) {
	if v.conn != nil {
		if err := bound(ctx, v.conn); err != nil {
			return 0, err
		}
		return say(v.conn)
	}
	c, err := v.dial(ctx, v.to)
	if err != nil {
		return 0, err
	}
	v.conn = c
	if v.greet != nil {
		if err := v.greet(c); err != nil {
			return 0, err
		}
	}
	return say(c)
}

func (v *conversation) hangUp() {
	if v.conn != nil {
		_ = v.conn.Close()
		v.conn = nil
	}
}

// converse lets a node ask a peer at a period, until the end.
func (t *Traffic) converse(behaviour, what, node string, to peer, greet func(net.Conn) error, next func(a *actor) func() time.Duration,
	say func(n uint16) func(c net.Conn) (int, error)) error {
	a, err := t.actor(behaviour, node)
	if err != nil {
		return err
	}
	v := &conversation{actor: a, to: to, greet: greet}
	period := next(a)
	t.run(func(ctx context.Context) {
		defer v.hangUp()
		n := uint16(0)
		a.every(ctx, period, func() {
			n++
			v.ask(ctx, what, say(n))
		})
	})
	return nil
}

// furnishOT lets panels (app=hmi), the historian (app=historian or
// function=historian) and the engineering station (app=engineering) poll
// every controller (app=plc) by Modbus/TCP, on a fixed rhythm.
func furnishOT(t *Traffic, pace float64) error {
	controllers, err := t.nodes("app=plc")
	if err != nil {
		return err
	}
	masters := 0
	for _, m := range []struct {
		labels []string
		period time.Duration
	}{
		{[]string{"app=hmi"}, hmiEvery},
		{[]string{"app=historian", "function=historian"}, historianEvery},
		{[]string{"app=engineering"}, engineeringEvery},
	} {
		nodes, err := t.nodes(m.labels...)
		var lack *lackError
		if errors.As(err, &lack) {
			continue
		}
		if err != nil {
			return err
		}
		for _, node := range nodes {
			if err := t.pollControllers(node, controllers, time.Duration(float64(m.period)/pace)); err != nil {
				return err
			}
			masters++
		}
	}
	if masters == 0 {
		return &lackError{[]string{"app=hmi", "app=historian", "app=engineering"}}
	}
	return nil
}

// pollControllers lets a master poll all controllers, each over a connection
// of its own.
func (t *Traffic) pollControllers(master string, controllers []string, period time.Duration) error {
	for _, node := range controllers {
		to, err := t.serveTCP("modbus", node, modbusPort, answerModbus)
		if err != nil {
			return err
		}
		fixed := func(*actor) func() time.Duration { return func() time.Duration { return period } }
		if err := t.converse("ot", "poll", master, to, nil, fixed, readRegisters); err != nil {
			return err
		}
	}
	return nil
}

// modbusHeader is the length of the MBAP header (Modbus Messaging on TCP/IP
// Implementation Guide 1.0b, 3.1.3): transaction, protocol, length, unit.
const modbusHeader = 7

// readRegisters polls by function 3, read holding registers.
func readRegisters(n uint16) func(c net.Conn) (int, error) {
	return func(c net.Conn) (int, error) {
		q := []byte{byte(n >> 8), byte(n), 0, 0, 0, 6, 1, 3, 0, 0, 0, registers}
		if _, err := c.Write(q); err != nil {
			return 0, err
		}
		r := make([]byte, modbusHeader+2+2*registers)
		if _, err := io.ReadFull(c, r); err != nil {
			return 0, err
		}
		if got := binary.BigEndian.Uint16(r); got != n || r[modbusHeader] != 3 {
			return len(r), fmt.Errorf("modbus: answer %d of function %d to request %d", got, r[modbusHeader], n)
		}
		return len(r), nil
	}
}

// answerModbus is a controller's side: registers that are all 0.
func answerModbus(c net.Conn) {
	q := make([]byte, modbusHeader+5)
	for {
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		n := binary.BigEndian.Uint16(q[modbusHeader+3:])
		if binary.BigEndian.Uint16(q[2:]) != 0 || q[modbusHeader] != 3 || n == 0 || n > 125 { // 125 is the protocol's limit
			return
		}
		r := append([]byte{q[0], q[1], 0, 0, 0, byte(3 + 2*n), q[6], 3, byte(2 * n)}, make([]byte, 2*n)...)
		if _, err := c.Write(r); err != nil {
			return
		}
	}
}

// furnishTelemetry lets sensors (app=sensor) publish by MQTT to app=mqtt, or
// to the web server, and wait for the receipt.
func furnishTelemetry(t *Traffic, pace float64) error {
	sensors, err := t.nodes("app=sensor")
	if err != nil {
		return err
	}
	brokers, err := t.nodes("app=mqtt", "app=web")
	if err != nil {
		return err
	}
	to, err := t.serveTCP("mqtt", brokers[0], mqttPort, answerMQTT)
	if err != nil {
		return err
	}
	period := func(a *actor) func() time.Duration { return a.jittered(telemetryEvery, pace) }
	for _, node := range sensors {
		if err := t.converse("telemetry", "publish", node, to, connectMQTT(node), period, publish); err != nil {
			return err
		}
	}
	return nil
}

// connectMQTT opens a session of MQTT 3.1.1 (3.1, 3.2).
func connectMQTT(client string) func(c net.Conn) error {
	return func(c net.Conn) error {
		body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, byte(len(client) >> 8), byte(len(client))}, client...)
		if _, err := c.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
			return err
		}
		var r [4]byte
		if _, err := io.ReadFull(c, r[:]); err != nil {
			return err
		}
		if r != [4]byte{0x20, 2, 0, 0} {
			return fmt.Errorf("MQTT: connect answered % x", r)
		}
		return nil
	}
}

// publish reports a reading with quality of service 1 (MQTT 3.1.1, 3.3, 3.4).
func publish(n uint16) func(c net.Conn) (int, error) {
	return func(c net.Conn) (int, error) {
		topic := "lab/reading"
		body := append([]byte{0, byte(len(topic))}, topic...)
		body = append(body, byte(n>>8), byte(n))
		body = append(body, fmt.Sprintf(`{"n":%d,"celsius":21.5}`, n)...)
		if _, err := c.Write(append([]byte{0x32, byte(len(body))}, body...)); err != nil {
			return 0, err
		}
		var r [4]byte
		if _, err := io.ReadFull(c, r[:]); err != nil {
			return 0, err
		}
		if r != [4]byte{0x40, 2, byte(n >> 8), byte(n)} {
			return 0, fmt.Errorf("MQTT: publish %d answered % x", n, r)
		}
		return len(body), nil
	}
}

// answerMQTT is the broker's side, as far as sensors need it. It passes
// nothing on.
func answerMQTT(c net.Conn) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c, head[:]); err != nil || head[1] > 127 {
			return // longer than any sensor's message
		}
		body := make([]byte, head[1])
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		answer := []byte{0x20, 2, 0, 0}
		if head[0]>>4 == 3 {
			if len(body) < 4 || len(body) < 4+int(body[1]) {
				return
			}
			at := 2 + int(body[1])
			answer = []byte{0x40, 2, body[at], body[at+1]}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// furnishRPC lets each tier call the next: web servers (app=web) the
// application's (app=api), and those the databases (app=db); where there are
// no applications, the web servers call the databases.
func furnishRPC(t *Traffic, pace float64) error {
	tiers := [][2]string{{"app=web", "app=api"}, {"app=api", "app=db"}}
	if _, err := t.nodes("app=api"); err != nil {
		tiers = [][2]string{{"app=web", "app=db"}}
	}
	for _, tier := range tiers {
		callers, err := t.nodes(tier[0])
		if err != nil {
			return err
		}
		servers, err := t.nodes(tier[1])
		if err != nil {
			return err
		}
		port := uint16(9000)
		if tier[1] == "app=db" {
			port = 5432
		}
		for i, node := range callers {
			own := t.sameEnvironment(node, servers)
			to, err := t.serveTCP("rpc", own[i%len(own)], port, answerCall)
			if err != nil {
				return err
			}
			period := func(a *actor) func() time.Duration { return a.jittered(rpcEvery, pace) }
			if err := t.converse("rpc", "call", node, to, nil, period, call); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameEnvironment lists the servers in the environment that a node is in by
// its label env; all where that says nothing. Nobody's development calls
// production.
func (t *Traffic) sameEnvironment(node string, servers []string) []string {
	for _, env := range []string{"prod", "staging", "test", "dev"} {
		in := t.lab.Select("env", env)
		if !slices.Contains(in, node) {
			continue
		}
		own := slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return !slices.Contains(in, s) })
		if len(own) > 0 {
			return own
		}
	}
	return servers
}

const (
	// callSize and answerSize are a call's and its answer's, in octets.
	callSize, answerSize = 256, 2048
)

// call makes one call.
func call(n uint16) func(c net.Conn) (int, error) {
	return func(c net.Conn) (int, error) {
		q := make([]byte, callSize)
		binary.BigEndian.PutUint16(q, n)
		if _, err := c.Write(q); err != nil {
			return 0, err
		}
		r := make([]byte, answerSize)
		if _, err := io.ReadFull(c, r); err != nil {
			return 0, err
		}
		if got := binary.BigEndian.Uint16(r); got != n {
			return 0, fmt.Errorf("call %d got the answer to %d", n, got)
		}
		return answerSize, nil
	}
}

// answerCall is the other side.
func answerCall(c net.Conn) {
	q, r := make([]byte, callSize), make([]byte, answerSize)
	for {
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		copy(r, q[:2])
		if _, err := c.Write(r); err != nil {
			return
		}
	}
}
