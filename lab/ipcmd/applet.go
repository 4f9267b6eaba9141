package ipcmd

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Applet runs as ip or as sysctl when the program was called by such a name:
// args are os.Args. Otherwise ok is false and nothing has happened. The exit
// code is 0, 1 for a mistake in the arguments or a missing device, and 2 for
// what the kernel refuses, as iproute2's is.
func Applet(args []string, out, errOut io.Writer) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch filepath.Base(args[0]) {
	case "ip":
		err = IP(args[1:], out)
	case "sysctl":
		err = Sysctl(args[1:], out)
	default:
		return 0, false
	}
	var errno unix.Errno
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &errno) && errno != unix.ENODEV && filepath.Base(args[0]) == "ip":
		code = 2
	default:
		code = 1
	}
	fmt.Fprintf(errOut, "%s: %v\n", filepath.Base(args[0]), err)
	return code, true
}

// IP is ip(8) in the network namespace of the calling thread: args are its
// arguments without its name. Errors are of type *SyntaxError, or wrap the
// kernel's number.
func IP(args []string, out io.Writer) error {
	c, err := Parse(args)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	return Apply(h, c, out)
}
