package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/openc2"
)

// maxTokens bounds the file of tokens, in bytes.
const maxTokens = 1 << 20

// takeCommands serves OpenC2 until ctx ends, where the configuration says so.
func (c *Controller) takeCommands(ctx context.Context) error {
	o := &c.cfg.OpenC2
	if o.Listen == "" {
		return nil
	}
	raw, err := files.Read(o.Tokens, maxTokens)
	if err != nil {
		return fmt.Errorf("read tokens of OpenC2: %w", err)
	}
	tokens, err := openc2.ParseTokens(o.Tokens, raw)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("take OpenC2 commands: %w", err)
	}
	if o.Certificate != "" {
		if _, err := tls.LoadX509KeyPair(o.Certificate, o.Key); err != nil {
			l.Close()
			return fmt.Errorf("certificate of OpenC2: %w", err)
		}
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			// Read anew each time, so that it is renewed without a restart.
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
				return &pair, err
			}})
	}
	srv := &http.Server{
		Handler: openc2.New(c, tokens), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	c.log.WithField("address", l.Addr()).Info("taking OpenC2 commands")
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("take OpenC2 commands: %w", err)
	}
	return nil
}
