// Package capture records packets inside lab nodes with tcpdump and reads
// the recordings: evidence that is independent of everything measured.
package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
)

const (
	// snapLength is enough to recognise a packet: Ethernet, IPv6 and TCP, or
	// a neighbour solicitation.
	snapLength = 96
	// bufferKiB takes a flood for a second before the kernel drops packets.
	bufferKiB = 16384
	// settle is how long a recording must not grow before it is complete;
	// settleBulk the same where the kernel hands packets on in blocks, which
	// it does at the latest after a second.
	settle     = 60 * time.Millisecond
	settleBulk = 1300 * time.Millisecond
)

// Options say what to record.
type Options struct {
	// Filter is a capture filter in pcap's language.
	Filter string
	// Out records what leaves the interface instead of what arrives.
	Out bool
	// Count ends the recording after so many packets; 0 does not.
	Count int
	// Bulk takes packets from the kernel in blocks, up to a second late: a
	// flood recorded packet by packet costs a good part of a core, which
	// what is measured then lacks. Timestamps are the kernel's either way.
	Bulk bool
}

// Capture is a recording under way.
type Capture struct {
	file   string
	cmd    *namespace.Cmd
	stderr chan string // all that tcpdump said, when it ended
	settle time.Duration
}

// Start records an interface of a node into a file, and returns when
// recording has begun.
func Start(ctx context.Context, lab *runner.Lab, node, iface, file string, o Options) (*Capture, error) {
	direction := "in"
	if o.Out {
		direction = "out"
	}
	args := []string{"-i", iface, "-n", "-Q", direction, "-s", strconv.Itoa(snapLength), "-B", strconv.Itoa(bufferKiB),
		"-U", "--time-stamp-precision=nano", "-Z", "root", "-w", file}
	wait := settleBulk
	if !o.Bulk {
		args, wait = append(args, "--immediate-mode"), settle
	}
	if o.Count > 0 {
		args = append(args, "-c", strconv.Itoa(o.Count))
	}
	cmd, err := lab.Command(context.WithoutCancel(ctx), node, "tcpdump", append(args, o.Filter)...)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	// Interrupts at the terminal are for us: we still want the summary.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &Capture{file: file, cmd: cmd, stderr: make(chan string, 1), settle: wait}
	listening := make(chan struct{})
	go c.follow(pipe, listening)
	select {
	case <-listening:
		return c, nil
	case said := <-c.stderr:
		_ = cmd.Wait()
		return nil, fmt.Errorf("capture on %s:%s: tcpdump: %s", node, iface, strings.TrimSpace(said))
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-c.stderr
		_ = cmd.Wait()
		return nil, fmt.Errorf("capture on %s:%s: %w", node, iface, ctx.Err())
	}
}

// follow reads what tcpdump says to the end.
func (c *Capture) follow(pipe io.Reader, listening chan<- struct{}) {
	var all strings.Builder
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "listening on") {
			close(listening)
		}
	}
	c.stderr <- all.String()
}

// Size is how much has been recorded so far, in bytes; it grows exactly when
// packets pass.
func (c *Capture) Size() int64 {
	info, err := os.Stat(c.file)
	if err != nil {
		return 0
	}
	return info.Size()
}

var droppedLine = regexp.MustCompile(`(\d+) packets? dropped by kernel`)

// Stop ends the recording once no more packets come, or at the end of the
// context, and returns when each packet passed, in order. Dropped is how
// many packets the recording missed.
func (c *Capture) Stop(ctx context.Context) (times []time.Time, dropped int, err error) {
	c.quiet(ctx)
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, 0, fmt.Errorf("capture: %w", err)
	}
	said := <-c.stderr
	var exit *exec.ExitError
	if err := c.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return nil, 0, fmt.Errorf("capture: %w", err)
	}
	if m := droppedLine.FindStringSubmatch(said); m != nil {
		dropped, _ = strconv.Atoi(m[1])
	}
	times, err = Times(c.file)
	return times, dropped, err
}

// quiet waits until the recording stops growing.
func (c *Capture) quiet(ctx context.Context) {
	size, since := c.Size(), time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Since(since) < c.settle {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := c.Size(); now != size {
			size, since = now, time.Now()
		}
	}
}

// Times reads when each packet of a recording passed.
func Times(file string) ([]time.Time, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	defer f.Close()
	return readTimes(bufio.NewReaderSize(f, 1<<20))
}

func readTimes(r io.Reader) ([]time.Time, error) {
	packets, err := pcapgo.NewReader(r)
	if errors.Is(err, io.EOF) {
		return nil, nil // ended before its header was written
	}
	if err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	var out []time.Time
	for {
		_, info, err := packets.ZeroCopyReadPacketData()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return out, nil // the last packet may be cut off
		case err != nil:
			return nil, fmt.Errorf("read capture: packet %d: %w", len(out)+1, err)
		}
		out = append(out, info.Timestamp)
	}
}

// Peek reads what has been recorded so far.
func (c *Capture) Peek() ([]time.Time, error) { return Times(c.file) }
