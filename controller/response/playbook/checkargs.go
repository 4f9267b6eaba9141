package playbook

import (
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (w Webhook) check(want check) {
	literal, _, _ := strings.Cut(w.URL, "{{")
	u, err := url.Parse(literal)
	want(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil, "url",
		"needs https://HOST/... or http://HOST/..., without a user")
	if err == nil && literal != w.URL {
		want(u.Path != "", "url", "templates may stand only behind the host and a slash")
	}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		want(headerName(name), "headers."+name, "is not the name of a header that may be set")
		want(!strings.ContainsAny(w.Headers[name], "\r\n"), "headers."+name, "has a line break")
	}
	for _, name := range slices.Sorted(maps.Keys(w.SecretHeaders)) {
		want(headerName(name), "secret_headers."+name, "is not the name of a header that may be set")
		want(filepath.IsAbs(w.SecretHeaders[name]), "secret_headers."+name, "needs the absolute path of a file")
	}
	want(w.Secret == "" || filepath.IsAbs(w.Secret), "secret", "needs the absolute path of a file")
	want(w.CA == "" || filepath.IsAbs(w.CA), "ca", "needs the absolute path of a file")
}

// headerName reports whether a header may be set: a token of RFC 9110, and none
// that the transport or the signature owns.
func headerName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) {
			return false
		}
	}
	owned := []string{"host", "content-length", "content-type", "transfer-encoding", "connection", "trailer", "idempotency-key", "x-platelet-timestamp", "x-platelet-signature"}
	return s != "" && !slices.Contains(owned, strings.ToLower(s))
}

func (e Exec) check(want check) {
	want(e.Command != "", "command", "needs the name of a command in playbook_exec")
	want(len(e.Args) <= 64, "args", "%d arguments, at most 64 are allowed", len(e.Args))
}

func (n Notify) check(want check) {
	want(n.Syslog != nil || n.Email != nil, "", "needs syslog or email")
	if n.Syslog != nil {
		_, _, err := SyslogTarget(n.Syslog.To)
		want(err == nil, "syslog.to", "%v", err)
	}
	if n.Email != nil {
		n.Email.check(want.under("email"))
	}
}

// SyslogTarget takes a target apart as net.Dial needs it.
func SyslogTarget(to string) (network, address string, err error) {
	network, address, _ = strings.Cut(to, ":")
	switch network {
	case "unix":
		if filepath.IsAbs(address) {
			return network, address, nil
		}
	case "udp", "tcp":
		if hostPort(address) {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("%q is none of udp:HOST:PORT, tcp:HOST:PORT, unix:/PATH", to)
}

func hostPort(s string) bool {
	u, err := url.Parse("//" + s)
	return err == nil && u.Host == s && u.Hostname() != "" && u.Port() != ""
}

func (e *Email) check(want check) {
	want(hostPort(e.Server), "server", "%q is not HOST:PORT", e.Server)
	want(slices.Contains([]string{"", "starttls", "tls", "none"}, e.TLS), "tls", "%q is not starttls, tls or none", e.TLS)
	want((e.User == "") == (e.Password == ""), "password", "user and password come together")
	want(e.User == "" || e.TLS != "none", "tls", "a password is not sent without TLS")
	want(e.Password == "" || filepath.IsAbs(e.Password), "password", "needs the absolute path of a file")
	want(e.CA == "" || filepath.IsAbs(e.CA), "ca", "needs the absolute path of a file")
	want(address(e.From), "from", "%q is not an address", e.From)
	want(len(e.To) > 0 && len(e.To) <= 32, "to", "needs 1 to 32 addresses")
	for i, to := range e.To {
		want(address(to), fmt.Sprintf("to[%d]", i), "%q is not an address", to)
	}
}

// address reports whether a text is a bare mail address.
func address(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && !strings.ContainsAny(s, "\r\n")
}

func (i Intel) check(want check) {
	want(filepath.IsAbs(i.Dir), "dir", "needs the absolute path of a directory")
	want(i.Valid >= 0 && i.Valid <= 366*24*time.Hour, "valid", "%s is outside 0s to a year", i.Valid)
	want(slices.Contains([]string{"", "clear", "green", "amber", "red"}, i.TLP), "tlp", "%q is not clear, green, amber or red", i.TLP)
}

func (d Docker) check(want check) {
	want(d.Socket == "" || filepath.IsAbs(d.Socket), "socket", "needs an absolute path")
	key, _, ok := strings.Cut(d.Label, "=")
	want(ok && key != "" && !strings.Contains(key, "{{"), "label", "%q is not KEY=VALUE", d.Label)
	want(d.Do == "restart" || d.Do == "recreate", "do", "%q is not restart or recreate", d.Do)
}

func (w Wait) check(want check) {
	want((w.For > 0) != (w.Clean > 0), "", "needs either for or clean, above 0s")
	want(w.For <= maxTimeout, "for", "%s is more than 24h", w.For)
	want(w.Clean <= maxTimeout, "clean", "%s is more than 24h", w.Clean)
}

func (a Ask) check(want check) {
	want(strings.TrimSpace(a.Title) != "", "title", "needs a question")
	want(a.People >= 0 && a.People <= 2, "people", "%d is outside 1 to 2", a.People)
	want(a.Expires >= 0 && a.Expires <= maxExpires, "expires", "%s is outside 0s to 720h", a.Expires)
	want(slices.Contains([]OnTimeout{"", TimeoutStop, TimeoutRollback, TimeoutSkip}, a.OnTimeout), "on_timeout", "%q is not stop, rollback or skip", a.OnTimeout)
	for _, list := range []struct {
		key   string
		names []string
	}{{"who", a.Who}, {"groups", a.Groups}} {
		want(len(list.names) <= 64, list.key, "%d names, at most 64 are allowed", len(list.names))
		for i, name := range list.names {
			want(name != "" && !strings.ContainsAny(name, " \t\r\n"), fmt.Sprintf("%s[%d]", list.key, i), "%q is not a name", name)
		}
	}
}
