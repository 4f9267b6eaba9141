package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Client talks to a running controller.
type Client struct {
	http   *http.Client
	socket string
}

// NewClient returns a client of the controller behind a Unix socket.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Get reads one of the listings ("status", "findings", ...) into out.
func (c *Client) Get(ctx context.Context, what string, out any) error {
	return c.call(ctx, http.MethodGet, what, nil, out)
}

// Act approves, rejects or releases a decision; why may be empty.
func (c *Client) Act(ctx context.Context, action, id, why string) error {
	return c.call(ctx, http.MethodPost, "decisions/"+url.PathEscape(id)+"/"+action, actRequest{Why: why}, nil)
}

// Feedback says whether a finding was right; the answer is how many windows of
// its host are kept with the verdict.
func (c *Client) Feedback(ctx context.Context, id string, actual bool, why string) (windows int, err error) {
	var out feedbackReply
	err = c.call(ctx, http.MethodPost, "findings/"+url.PathEscape(id)+"/feedback", feedbackRequest{Real: actual, Why: why}, &out)
	return out.Windows, err
}

// Brake sets the global brake.
func (c *Client) Brake(ctx context.Context, on, release bool) error {
	return c.call(ctx, http.MethodPost, "brake", brakeRequest{On: on, Release: release}, nil)
}

// Events calls f for each event until ctx ends, the controller leaves or f
// fails. Ready, if not nil, is called when events are being received.
func (c *Client) Events(ctx context.Context, ready func(), f func(line []byte) error) error {
	resp, err := c.do(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if ready != nil {
		ready()
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), 4<<20)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return io.EOF
}

func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var raw io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		raw = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://platelet/v1/"+path, raw)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no platelet answers at %s (is `platelet run` running?): %w", c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e errorReply
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&e); err != nil || e.Error == "" {
		e.Error = resp.Status
	}
	return nil, fmt.Errorf("%s", e.Error)
}
