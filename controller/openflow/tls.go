package openflow

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
)

// TLS are the files of mutual TLS between us and the switches. They are read
// anew for each connection, so that certificates and keys are renewed without
// a restart; a connection that stands is not looked at again, and while a
// renewal is half done new connections fail and are tried again.
//
// The peer's certificate must be signed by the CA, be in force now, and be
// good for its side of the connection where it says what it is good for. The
// certificates of ovs-pki carry the name that `ovs-pki req` was given, which
// need not be a host's, so that the host that was dialled is not compared:
// any switch of the CA can stand in for another. Where that matters, Names
// ties addresses to certificates. The least version is TLS 1.2.
type TLS struct {
	// CA holds the certificates that the peer's must lead to, in PEM. With
	// ovs-pki that is the switches' CA, switchca/cacert.pem.
	CA string
	// Certificate and Key are ours, in PEM; the switch verifies them
	// against the CA that `ovs-vsctl set-ssl` gave it.
	Certificate, Key string
	// Names gives by host the name that its certificate must carry, as a
	// subject alternative name, or, where it has none, as its common name.
	// The host is that of the target, or the address that dials us. Hosts
	// that are left out need no name.
	Names map[string]string
}

// Client is the configuration for dialling a host.
func (t TLS) Client(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		// The name is not what decides here; VerifyConnection does all.
		InsecureSkipVerify: true,
		VerifyConnection:   t.verifier(x509.ExtKeyUsageServerAuth, host),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.own()
		},
	}
}

// Server is the configuration for being dialled.
func (t TLS) Server() *tls.Config {
	get := func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		host, _, err := net.SplitHostPort(hello.Conn.RemoteAddr().String())
		if err != nil {
			return nil, fmt.Errorf("address of the switch: %w", err)
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS12,
			// VerifyConnection verifies it, with the CA of this moment.
			ClientAuth:       tls.RequireAnyClientCert,
			VerifyConnection: t.verifier(x509.ExtKeyUsageClientAuth, host),
			GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.own() },
			// A ticket would let in who was let in under an old CA.
			SessionTicketsDisabled: true,
		}, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: get}
}

// own reads our certificate and key.
func (t TLS) own() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	return &c, nil
}

// verifier checks the peer's certificate for a purpose.
func (t TLS) verifier(purpose x509.ExtKeyUsage, host string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the peer shows no certificate")
		}
		leaf, rest := s.PeerCertificates[0], x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return fmt.Errorf("CA of the peers: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("CA of the peers: %s holds no certificate", t.CA)
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{purpose}})
		if err == nil {
			err = carries(leaf, t.Names[host])
		}
		if err != nil {
			return fmt.Errorf("peer %q: %w", leaf.Subject.CommonName, &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err})
		}
		return nil
	}
}

// carries checks a certificate's name; an empty one is not asked for.
func carries(c *x509.Certificate, name string) error {
	switch {
	case name == "":
		return nil
	case slices.Contains(c.DNSNames, name): // ovs-pki: even where it is an address
		return nil
	case len(c.DNSNames)+len(c.IPAddresses) > 0:
		return c.VerifyHostname(name)
	case c.Subject.CommonName != name:
		return fmt.Errorf("the certificate's common name is not %q", name)
	}
	return nil
}

// explain adds to an error of the first exchange what it usually means.
func explain(err error, nc net.Conn) error {
	_, secure := nc.(*tls.Conn)
	var plain tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &plain):
		return fmt.Errorf("no TLS on the other side (tcp: and ptcp: speak without): %w", err)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("the switch refused our certificate or version of TLS: %w", err)
	case closedEarly(err) && !secure && nc.RemoteAddr().Network() == "tcp":
		return fmt.Errorf("closed before hello (does the switch want TLS, ssl: or pssl:?): %w", err)
	case closedEarly(err):
		return fmt.Errorf("closed before hello: %w", err)
	}
	return err
}
