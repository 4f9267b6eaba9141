package actions

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func call(args playbook.Args) run.Call {
	return run.Call{Key: "r-1-step", Attempt: 1, Args: args, Facts: playbook.Facts{
		Run: "r-1", Playbook: "p", Step: "step",
		Finding: playbook.FindingFacts{ID: "f-1", Kind: detector.KindPortScan, Severity: detector.SeverityHigh, Technique: "T1046", Why: "port-scan by 10.0.0.7: a=b | c\nd",
			Victim: "10.0.0.9", Protocol: "tcp", Port: 22, Confidence: 0.9, Time: "2026-11-23T09:00:00.5Z", FirstSeen: "2026-11-23T08:59:59Z"},
		Decision: playbook.DecisionFacts{ID: "d-1", Action: "quarantine"},
		Host:     playbook.HostFacts{Address: "10.0.0.7", MAC: "02:00:00:00:00:07", Switch: "br0", Port: "p7"},
	}}
}

func permanent(err error) bool {
	return err != nil && run.IsPermanent(err)
}

func TestWebhookIsSigned(t *testing.T) {
	var got *http.Request
	var body string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, body = r, string(raw)
	}))
	defer srv.Close()
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	w := playbook.Webhook{URL: srv.URL + "/hook", Body: `{"a":1}`, Headers: map[string]string{"X-Team": "net"},
		SecretHeaders: map[string]string{"Authorization": file(t, "Bearer hush\n")}, Secret: file(t, "key\n"), CA: ca}
	result, err := New(nil).Do(t.Context(), call(w))
	if err != nil || result != "200 OK" {
		t.Fatalf("%q, %v", result, err)
	}
	h := got.Header
	if got.Method != http.MethodPost || body != `{"a":1}` || h.Get("Idempotency-Key") != "r-1-step" || h.Get("X-Team") != "net" ||
		h.Get("Authorization") != "Bearer hush" || h.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: %v", got.Method, body, h)
	}
	// HMAC-SHA256 as openssl computes it: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
	if s := sign("key", "1700000000", `{"a":1}`); s != "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03" {
		t.Errorf("signature %s", s)
	}
	if want := sign("key", h.Get("X-Platelet-Timestamp"), body); h.Get("X-Platelet-Signature") != want {
		t.Errorf("signed %s, want %s", h.Get("X-Platelet-Signature"), want)
	}
	// Without its certificate the server is not believed.
	w.CA = ""
	if _, err := New(nil).Do(t.Context(), call(w)); err == nil {
		t.Error("an unknown server was believed")
	}
}

func TestWebhookAnswers(t *testing.T) {
	redirected := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
		case "/target":
			redirected = true
		case "/endless":
			w.WriteHeader(http.StatusOK)
			_, _ = io.Copy(w, endless{r.Context()})
		case "/hangs":
			<-r.Context().Done()
		case "/400":
			w.WriteHeader(http.StatusBadRequest)
		case "/429":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer srv.Close()
	post := func(w playbook.Webhook) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := New(nil).Do(ctx, call(w))
		return err
	}
	for path, want := range map[string]struct{ fails, forGood bool }{
		"/ok": {}, "/endless": {}, "/400": {true, true}, "/redirect": {true, true}, "/429": {true, false}, "/500": {true, false},
	} {
		err := post(playbook.Webhook{URL: srv.URL + path})
		if (err != nil) != want.fails || permanent(err) != want.forGood {
			t.Errorf("%s: %v, for good %v", path, err, permanent(err))
		}
	}
	if redirected {
		t.Error("a redirect was followed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(nil).Do(ctx, call(playbook.Webhook{URL: srv.URL + "/hangs?token=hush"})); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "hush") {
		t.Errorf("hangs: %v", err)
	}
	if err := post(playbook.Webhook{URL: srv.URL, Secret: "/nosuch"}); !permanent(err) {
		t.Errorf("without its secret: %v", err)
	}
	if err := post(playbook.Webhook{URL: srv.URL, Secret: file(t, "\n")}); !permanent(err) {
		t.Errorf("with an empty secret: %v", err)
	}
}

// endless is a body without end.
type endless struct{ ctx context.Context }

func (e endless) Read(p []byte) (int, error) { return len(p), e.ctx.Err() }
