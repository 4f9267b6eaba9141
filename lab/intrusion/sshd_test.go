package intrusion_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/intrusion"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
	"golang.org/x/crypto/ssh"
)

// sshd is where Debian and most others keep OpenSSH's server.
const sshd = "/usr/sbin/sshd"

// againstOpenSSH guesses passwords at the server that most would guess
// at, started in the victim's namespace alone.
func againstOpenSSH(ctx context.Context, t *testing.T, _ labtest.Env, lab *runner.Lab) {
	if _, err := os.Stat(sshd); err != nil {
		t.Skipf("%v: the machine has no SSH server; scripts/install-deps.sh --test installs one where no init system would start it", err)
	}
	dir := t.TempDir()
	cmd, err := lab.Command(ctx, "h1", sshd, "-D", "-e", "-f", configure(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(said)
	for ready := false; !ready; {
		if !lines.Scan() {
			t.Fatal("sshd ended")
		}
		ready = strings.Contains(lines.Text(), "listening on")
	}
	r := newRig(t, lab, 10, 12)
	done := make(chan error, 1)
	go func() { done <- intrusion.SSHBruteForce(ctx, &r.Stage) }()
	failed := 0
	for failed < 12 && lines.Scan() {
		if strings.Contains(lines.Text(), "Failed password for invalid user") || strings.Contains(lines.Text(), "Failed password for admin") {
			failed++
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	logins := r.actions("login")
	if failed != 12 || count(logins, "rejected") != 12 {
		t.Errorf("sshd saw %d wrong passwords, of %v", failed, logins)
	}
}

// configure writes what a server of its own needs.
func configure(t *testing.T, dir string) string {
	t.Helper()
	// The server insists on this directory for its unprivileged part.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	keyFile, config := filepath.Join(dir, "key"), filepath.Join(dir, "config")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("HostKey %s\nListenAddress 10.77.0.11\nPidFile %s/pid\nUsePAM no\nPasswordAuthentication yes\nLogLevel VERBOSE\nMaxStartups 100\n",
		keyFile, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}
