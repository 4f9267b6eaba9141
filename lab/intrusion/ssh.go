package intrusion

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"golang.org/x/crypto/ssh"
)

const (
	sshPort = 22
	// wordList is how many passwords a brute force tries: 30 s at its own
	// rate.
	wordList = 300
	// adminName is whose password is guessed.
	adminName = "admin"
	// sshVersion is what the guessing client calls itself.
	sshVersion = "SSH-2.0-libssh_0.10.6"
)

// What became of a login, for the ground truth.
const (
	accepted = "accepted"
	rejected = "rejected"
	noAnswer = "no answer"
)

// SSHBruteForce guesses the password of one account of the victim's SSH
// server, one per connection, at the stage's rate. The server is one of ours
// that takes the last word of the list; where one listens already, it is that.
func SSHBruteForce(ctx context.Context, s *Stage) error {
	victim, err := s.open(s.Victim)
	if err != nil {
		return err
	}
	words := s.words(s.limit(wordList))
	var own servers
	defer own.close()
	if err := own.ssh(victim, words[len(words)-1]); err != nil {
		return err
	}
	var done atomic.Bool
	return ended(ctx, s.attempts(ctx, len(words), func(i int) job {
		if done.Load() {
			return nil
		}
		return func(ctx context.Context) {
			if s.sshLogin(ctx, s.attacker(), victim, adminName, words[i]) == accepted {
				done.Store(true)
			}
		}
	}))
}

// words makes a list of passwords in the manner of people.
func (s *Stage) words(n int) []string {
	stems := []string{"summer", "winter", "welcome", "password", "letmein", "dragon", "monkey", "football", "sunshine", "princess"}
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", stems[s.Rand.IntN(len(stems))], 1950+s.Rand.IntN(80))
		if i == n-1 {
			out[i] += "!" // unlike all others: only the last may be right
		}
	}
	return out
}

// PasswordSpray tries a few passwords of which everybody is thought to have
// one, each on every account of every host before the next, on the SSH
// servers of the victim and the peers. None is right.
func PasswordSpray(ctx context.Context, s *Stage) error {
	hosts, err := s.targets()
	if err != nil {
		return err
	}
	var own servers
	defer own.close()
	for _, h := range hosts {
		if err := own.ssh(h, ""); err != nil {
			return err
		}
	}
	users := []string{adminName, "root", "operator", "backup", "alice", "bob"}
	words := s.words(3)
	n := len(hosts) * len(users) * len(words)
	return ended(ctx, s.attempts(ctx, s.limit(n), func(i int) job {
		host, user, word := hosts[i%len(hosts)], users[i/len(hosts)%len(users)], words[i/len(hosts)/len(users)]
		return func(ctx context.Context) { s.sshLogin(ctx, s.attacker(), host, user, word) }
	}))
}

// sshLogin tries one password on a connection of its own.
func (s *Stage) sshLogin(ctx context.Context, from, to *agent.Station, user, word string) string {
	a := agent.Action{
		Time: time.Now(), Agent: from.Node, Action: "login", From: from.Addr(), To: to.Addr(), Proto: "tcp", Port: sshPort,
	}
	outcome := sshTry(ctx, from, to, user, word)
	if ctx.Err() == nil || outcome != noAnswer || time.Since(a.Time) >= patience {
		a.Note = user + ": " + outcome
	} else {
		a.Note = user + ": broken off"
	}
	s.Record(a)
	return outcome
}

// sshTry reports what an SSH server says to a password.
func sshTry(ctx context.Context, from, to *agent.Station, user, word string) string {
	c, err := from.Dial(ctx, "tcp", agentAny, at(to, sshPort))
	if err != nil {
		return noAnswer
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	asked := false
	conn, channels, requests, err := ssh.NewClientConn(c, c.RemoteAddr().String(), &ssh.ClientConfig{
		User: user, ClientVersion: sshVersion,
		// Guessers do not care whom they talk to.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PasswordCallback(func() (string, error) {
			asked = true
			return word, nil
		})},
	})
	switch {
	case err == nil:
		go ssh.DiscardRequests(requests)
		go refuse(channels)
		_ = conn.Close()
		return accepted
	case asked && ctx.Err() == nil:
		return rejected
	}
	return noAnswer
}

// ssh starts an SSH server at a station that takes one password from
// anybody; none when it is empty. Who gets in finds nothing there.
func (s *servers) ssh(st *agent.Station, right string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("SSH host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return fmt.Errorf("SSH host key: %w", err)
	}
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2p1",
		PasswordCallback: func(_ ssh.ConnMetadata, word []byte) (*ssh.Permissions, error) {
			if right != "" && string(word) == right {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("wrong password")
		},
	}
	config.AddHostKey(signer)
	return s.accept(st, sshPort, func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		defer conn.Close()
		go ssh.DiscardRequests(requests)
		refuse(channels)
	})
}

// refuse refuses whatever somebody wants who got in.
func refuse(channels <-chan ssh.NewChannel) {
	for c := range channels {
		_ = c.Reject(ssh.Prohibited, "nothing here")
	}
}
