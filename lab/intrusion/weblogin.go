package intrusion

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

// loginPort is where the victim's login page is: not where its public pages
// are.
const loginPort = 8080

// agentAny lets the kernel choose the local address.
var agentAny netip.AddrPort

// HTTPBruteForce guesses the password of one account at the victim's login
// page, one form per connection, at the stage's rate. Wrong ones are answered
// 401; the last of the list is right.
func HTTPBruteForce(ctx context.Context, s *Stage) error {
	victim, err := s.open(s.Victim)
	if err != nil {
		return err
	}
	words := s.words(s.limit(2 * wordList))
	var own servers
	defer own.close()
	if err := own.web(victim, loginPort, nil, loginPage(words[len(words)-1])); err != nil {
		return err
	}
	client := browser(s.attacker())
	var done atomic.Bool
	return ended(ctx, s.attempts(ctx, len(words), func(i int) job {
		if done.Load() {
			return nil
		}
		return func(ctx context.Context) {
			if s.webLogin(ctx, client, victim, words[i]) == accepted {
				done.Store(true)
			}
		}
	}))
}

// webLogin posts the form once.
func (s *Stage) webLogin(ctx context.Context, client *http.Client, to *agent.Station, word string) string {
	from := s.attacker()
	a := agent.Action{
		Time: time.Now(), Agent: from.Node, Action: "login", From: from.Addr(), To: to.Addr(), Proto: "tcp", Port: loginPort,
	}
	outcome := webTry(ctx, client, at(to, loginPort), word)
	a.Note = adminName + ": " + outcome
	s.Record(a)
	return outcome
}

// webTry reports what a login page says to a password.
func webTry(ctx context.Context, client *http.Client, to netip.AddrPort, word string) string {
	form := url.Values{"user": {adminName}, "password": {word}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.String()+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return noAnswer
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return noAnswer
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusSeeOther {
		return accepted
	}
	return rejected
}

// loginPage is a form that takes one password.
func loginPage(right string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<form method="post"><input name="user"><input name="password" type="password"><button>Log in</button></form>`)
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		if r.PostFormValue("user") == adminName && r.PostFormValue("password") == right {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		http.Error(w, "wrong user or password", http.StatusUnauthorized)
	})
	return mux
}
