package controller_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A platform on another machine has a host contained, over TLS, on a real switch.
func TestOpenC2(t *testing.T) {
	r := newRig(t, "plt-oc2")
	dir := t.TempDir()
	cert, key, tokens := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens")
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=platelet",
		"-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	const token = "an-example-of-a-long-token"
	if err := os.WriteFile(tokens, []byte("soar "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r.start(quick + fmt.Sprintf("openc2: {listen: %q, certificate: %s, key: %s, tokens: %s}\n", at, cert, key, tokens))

	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	command := func(body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+at+"/.well-known/openc2", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/openc2-cmd+json;version=1.0")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	bad, web := r.addr("h6"), r.addr("h1")
	deny := fmt.Sprintf(`{"action":"deny","target":{"ipv4_net":%q},"args":{"duration":600000}}`, bad)
	var status int
	var text string
	r.await("the deny", func() bool {
		_ = r.fetch("h6", web.String()+":81", denied) // has to be seen first
		status, text = command(deny)
		return status == http.StatusOK
	})
	d := r.awaitState(bad.String(), "verified")
	if r.reaches("h6", web) {
		t.Error("the denied host reaches others")
	}
	if d.Who != "openc2 soar" {
		t.Errorf("asked for by %q", d.Who)
	}
	if status, text := command(strings.Replace(deny, bad.String(), r.addr("gw").String(), 1)); status != http.StatusForbidden {
		t.Errorf("denied a protected host: %d %s", status, text)
	}
	var a struct {
		Results struct {
			SLPF struct {
				Rule int64 `json:"rule_number"`
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil || a.Results.SLPF.Rule == 0 {
		t.Fatalf("answer %s: %v", text, err)
	}
	if status, text := command(fmt.Sprintf(`{"action":"delete","target":{"slpf:rule_number":%d}}`, a.Results.SLPF.Rule)); status != http.StatusOK {
		t.Errorf("delete: %d %s", status, text)
	}
	r.awaitReach("h6", web, "after the delete")
}
