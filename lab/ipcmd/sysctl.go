package ipcmd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// procSys is where the kernel's parameters are.
const procSys = "/proc/sys"

// Sysctl is sysctl(8) with the arguments "[-w] KEY=VALUE..." to write,
// "[-n] KEY..." to read, -e to ignore unknown keys and -q to say nothing
// about what was written. Other arguments are refused before anything is
// written.
func Sysctl(args []string, out io.Writer) error {
	var set struct{ write, bare, ignore, quiet bool }
	var todo []string
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			todo = append(todo, a)
			continue
		}
		for _, option := range strings.TrimPrefix(a, "-") {
			switch option {
			case 'w':
				set.write = true
			case 'n':
				set.bare = true
			case 'e':
				set.ignore = true
			case 'q':
				set.quiet = true
			default:
				return syntax("sysctl: option %q is not supported: there are -w, -n, -e and -q", a)
			}
		}
	}
	if len(todo) == 0 {
		return syntax("sysctl: needs KEY or KEY=VALUE")
	}
	type setting struct {
		key, file, value string
		write            bool
	}
	var settings []setting
	for _, a := range todo {
		key, value, write := strings.Cut(a, "=")
		if set.write && !write {
			return syntax("sysctl: %q needs the form KEY=VALUE", a)
		}
		file, err := sysctlFile(key)
		if err != nil {
			return err
		}
		settings = append(settings, setting{key, file, value, write})
	}
	for _, s := range settings {
		value := s.value
		var err error
		if s.write {
			err = writeSysctl(s.file, s.value)
		} else {
			value, err = readSysctl(s.file)
		}
		switch {
		case os.IsNotExist(err) && set.ignore:
			continue
		case err != nil:
			return fmt.Errorf("sysctl: %s: %w", s.key, err)
		case s.write && set.quiet:
		case set.bare:
			fmt.Fprintln(out, value)
		default:
			fmt.Fprintf(out, "%s = %s\n", s.key, value)
		}
	}
	return nil
}

// sysctlFile finds the file of a key. Parts are separated by dots or by
// slashes, whichever comes first, so that an interface's name may contain the
// other.
func sysctlFile(key string) (string, error) {
	path := strings.TrimSpace(key)
	if i := strings.IndexAny(path, "./"); i >= 0 && path[i] == '.' {
		path = strings.NewReplacer(".", "/", "/", ".").Replace(path)
	}
	if path == "" || !filepath.IsLocal(path) {
		return "", syntax("sysctl: %q is no key such as net.ipv4.ip_forward", key)
	}
	return filepath.Join(procSys, path), nil
}

func writeSysctl(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0) // it never makes a file
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.TrimSpace(value) + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func readSysctl(file string) (string, error) {
	data, err := os.ReadFile(file)
	return strings.TrimSuffix(string(data), "\n"), err
}
