package actions

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

// email hands one mail to a server. The Message-ID is the step's key, so that a
// mail that is sent once more is one mail to most readers.
func email(ctx context.Context, c run.Call, e playbook.Email) error {
	err := send(ctx, c, e)
	var refused *textproto.Error
	if errors.As(err, &refused) && refused.Code >= 500 {
		return run.Permanent(err)
	}
	return err
}

func send(ctx context.Context, c run.Call, e playbook.Email) error {
	client, err := connect(ctx, e)
	if err != nil {
		return err
	}
	defer client.Close()
	if e.User != "" {
		password, err := secret(e.Password)
		if err != nil {
			return run.Permanent(err)
		}
		host, _, _ := net.SplitHostPort(e.Server)
		if err := client.Auth(smtp.PlainAuth("", e.User, password, host)); err != nil {
			return fmt.Errorf("log in as %s: %w", e.User, err)
		}
	}
	if err := client.Mail(e.From); err != nil {
		return fmt.Errorf("sender %s: %w", e.From, err)
	}
	for _, to := range e.To {
		if err := client.Rcpt(to); err != nil {
			return fmt.Errorf("recipient %s: %w", to, err)
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	text, err := mail(c, e, time.Now())
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // it has the mail
	return nil
}

// connect dials the server and protects the connection as asked.
func connect(ctx context.Context, e playbook.Email) (*smtp.Client, error) {
	host, _, err := net.SplitHostPort(e.Server)
	if err != nil {
		return nil, run.Permanent(err)
	}
	config, err := trust(e.CA)
	if err != nil {
		return nil, run.Permanent(err)
	}
	config.ServerName = host
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", e.Server)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if e.TLS == "tls" {
		conn = tls.Client(conn, config)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if e.TLS == "" || e.TLS == "starttls" {
		if ok, _ := client.Extension("STARTTLS"); !ok {
			client.Close()
			return nil, run.Permanent(fmt.Errorf("%s offers no STARTTLS", e.Server))
		}
		if err := client.StartTLS(config); err != nil {
			client.Close()
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
	}
	return client, nil
}

// mail is a message (RFC 5322).
func mail(c run.Call, e playbook.Email, now time.Time) ([]byte, error) {
	subject, body := e.Subject, e.Body
	if subject == "" {
		subject = fmt.Sprintf("Platelet: %s", c.Facts.Finding.Kind)
	}
	if body == "" {
		body = c.Facts.Finding.Why
	}
	_, domain, _ := strings.Cut(e.From, "@")
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", e.From}, {"To", strings.Join(e.To, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", strings.Join(strings.Fields(subject), " "))},
		{"Date", now.Format(time.RFC1123Z)}, {"Message-ID", "<" + c.Key + "@" + domain + ">"}, {"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(body + "\n")); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}
