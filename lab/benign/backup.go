package benign

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

const (
	backupPort = 873 // rsync's
	// A backup: so many octets, at so many bits per second, by one host after
	// another, about so often.
	backupSize    = 2 << 20
	backupRate    = 16e6
	backupEvery   = 2 * time.Second
	backupHosts   = 8
	backupReceipt = 8 // octets of the server's answer: how many it has
)

// furnishBackup lets servers (role=server), or clients where there are none,
// back up to app=backup, or the web server, one after the other.
func furnishBackup(t *Traffic, pace float64) error {
	servers, err := t.nodes("app=backup", "app=web")
	if err != nil {
		return err
	}
	sources, err := t.nodes("role=server", "role=client")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err == nil && !slices.Contains(sources, clients[0]) {
		sources = append(sources, clients...)
	}
	vault := servers[0]
	sources = slices.DeleteFunc(sources, func(node string) bool { return node == vault })
	if len(sources) == 0 {
		return &lackError{[]string{"role=server", "role=client"}}
	}
	to, err := t.serveTCP("backup", vault, backupPort, keepBackup)
	if err != nil {
		return err
	}
	var hosts []*actor
	for _, node := range sources[:min(len(sources), backupHosts)] {
		a, err := t.actor("backup", node)
		if err != nil {
			return err
		}
		hosts = append(hosts, a)
	}
	first := hosts[0]
	t.run(func(ctx context.Context) {
		n := 0
		first.every(ctx, first.jittered(backupEvery, pace), func() {
			hosts[n%len(hosts)].backUp(ctx, to)
			n++
		})
	})
	return nil
}

// backUp makes one backup.
func (a *actor) backUp(ctx context.Context, to peer) {
	took := time.Duration(backupSize * 8 / backupRate * float64(time.Second))
	a.exchange(ctx, "backup", to, took+patience, func(ctx context.Context) (int, error) {
		c, err := a.dial(ctx, to)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		var n [backupReceipt]byte
		binary.BigEndian.PutUint64(n[:], backupSize)
		if _, err := c.Write(n[:]); err != nil {
			return 0, err
		}
		if err := pour(ctx, c, backupSize, backupRate); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return 0, err
		}
		if got := binary.BigEndian.Uint64(n[:]); got != backupSize {
			return 0, fmt.Errorf("of %d octets %d arrived", backupSize, got)
		}
		return backupSize, nil
	})
}

// keepBackup takes a backup, keeps nothing and says how much it was.
func keepBackup(c net.Conn) {
	var n [backupReceipt]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return
	}
	size := min(binary.BigEndian.Uint64(n[:]), downloadMost)
	got, _ := io.CopyN(io.Discard, c, int64(size))
	binary.BigEndian.PutUint64(n[:], uint64(got))
	_, _ = c.Write(n[:])
}
