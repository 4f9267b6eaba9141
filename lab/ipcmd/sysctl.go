package ipcmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// procSys is where the kernel's parameters are.
const procSys = "/proc/sys"

// sysctls is a command line of sysctl as parsed.
type sysctls struct {
	bare, ignore, quiet bool
	settings            []setting
}

// setting is one parameter, to be read or to be written.
type setting struct {
	key, file, value string
	write            bool
}

// Sysctl is sysctl(8) with the arguments "[-w] KEY=VALUE..." to write,
// "[-n] KEY..." to read, -e to ignore unknown keys and -q to say nothing
// about what was written. Other arguments are refused before anything is
// written.
func Sysctl(args []string, out io.Writer) error {
	todo, err := parseSysctl(args)
	if err != nil {
		return err
	}
	for _, s := range todo.settings {
		value := s.value
		if s.write {
			err = writeSysctl(s.file, s.value)
		} else {
			value, err = readSysctl(s.file)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && todo.ignore:
			continue
		case err != nil:
			return fmt.Errorf("sysctl: %s: %w", s.key, err)
		case s.write && todo.quiet:
		case todo.bare:
			fmt.Fprintln(out, value)
		default:
			fmt.Fprintf(out, "%s = %s\n", s.key, value)
		}
	}
	return nil
}

func parseSysctl(args []string) (sysctls, error) {
	var out sysctls
	var words []string
	onlyWrite := false
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			words = append(words, a)
			continue
		}
		for _, option := range strings.TrimPrefix(a, "-") {
			switch option {
			case 'w':
				onlyWrite = true
			case 'n':
				out.bare = true
			case 'e':
				out.ignore = true
			case 'q':
				out.quiet = true
			default:
				return sysctls{}, syntax("sysctl: option %q is not supported: there are -w, -n, -e and -q", a)
			}
		}
	}
	if len(words) == 0 {
		return sysctls{}, syntax("sysctl: needs KEY or KEY=VALUE")
	}
	for _, word := range words {
		key, value, write := strings.Cut(word, "=")
		if onlyWrite && !write {
			return sysctls{}, syntax("sysctl: %q needs the form KEY=VALUE", word)
		}
		file, err := sysctlFile(key)
		if err != nil {
			return sysctls{}, err
		}
		out.settings = append(out.settings, setting{key, file, value, write})
	}
	return out, nil
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
