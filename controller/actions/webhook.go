package actions

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

const (
	maxSecret = 64 << 10 // bytes of a file with a secret or certificates
	maxAnswer = 64 << 10 // bytes of an answer that are read at all
)

// webhook makes one request. It follows no redirect: where a signed body goes is
// for the playbook to say.
func webhook(ctx context.Context, key string, w playbook.Webhook) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, strings.NewReader(w.Body))
	if err != nil {
		return "", run.Permanent(withoutURL(err))
	}
	if err := head(req, key, w); err != nil {
		return "", run.Permanent(err)
	}
	config, err := trust(w.CA)
	if err != nil {
		return "", run.Permanent(err)
	}
	client := http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", withoutURL(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status is what counts
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return resp.Status, nil
	case code >= 300 && code < 400:
		return "", run.Permanent(fmt.Errorf("answered %s; redirects are not followed", resp.Status))
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		return "", run.Permanent(fmt.Errorf("answered %s", resp.Status))
	default:
		return "", fmt.Errorf("answered %s", resp.Status)
	}
}

// head sets the headers, the signature among them.
func head(req *http.Request, key string, w playbook.Webhook) error {
	contentType := w.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "platelet")
	for name, value := range w.Headers {
		req.Header.Set(name, value)
	}
	for name, file := range w.SecretHeaders {
		value, err := secret(file)
		if err != nil {
			return err
		}
		req.Header.Set(name, value)
	}
	req.Header.Set("Idempotency-Key", key)
	if w.Secret == "" {
		return nil
	}
	k, err := secret(w.Secret)
	if err != nil {
		return err
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("X-Platelet-Timestamp", now)
	req.Header.Set("X-Platelet-Signature", sign(k, now, w.Body))
	return nil
}

// sign is the HMAC-SHA256 (RFC 2104) of timestamp, dot and body: with the
// timestamp in it, a request that was overheard cannot be played again later.
func sign(key, timestamp, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(mac, timestamp+"."+body) // a hash takes everything
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// secret reads a file, without the line break at its end.
func secret(file string) (string, error) {
	raw, err := readSmall(file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimRight(string(raw), "\r\n")
	if s == "" {
		return "", fmt.Errorf("read secret: %s is empty", file)
	}
	return s, nil
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("%s has more than %d bytes", file, maxSecret)
	}
	return raw, err
}

// trust is TLS with the system's certificates, or with those of a file.
func trust(file string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return config, nil
	}
	pem, err := readSmall(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none", file)
	}
	return config, nil
}

// withoutURL leaves the URL out of an error: its path may be a secret.
func withoutURL(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return err
}
