package openflow

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pki is a public key infrastructure made by Open vSwitch's own tool.
type pki struct {
	t   testing.TB
	dir string
}

func newPKI(t testing.TB) pki {
	p := pki{t, t.TempDir()}
	p.run("init")
	return p
}

// run runs ovs-pki, which works in the directory that it is in.
func (p pki) run(args ...string) {
	p.t.Helper()
	cmd := exec.Command("ovs-pki", append([]string{"--dir=" + filepath.Join(p.dir, "pki"), "--log=" + filepath.Join(p.dir, "log"), "--unique", "--batch"}, args...)...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("ovs-pki %v: %v: %s", args, err, out)
	}
}

// ca is the certificate of the CA of "switch" or "controller".
func (p pki) ca(kind string) string { return filepath.Join(p.dir, "pki", kind+"ca", "cacert.pem") }

// issue makes a key and a certificate.
func (p pki) issue(name, kind string) (certificate, key string) {
	p.t.Helper()
	p.run("req+sign", name, kind)
	return filepath.Join(p.dir, name+"-cert.pem"), filepath.Join(p.dir, name+"-privkey.pem")
}

// controller is what a controller needs.
func (p pki) controller(name string) TLS {
	p.t.Helper()
	certificate, key := p.issue(name, "controller")
	return TLS{CA: p.ca("switch"), Certificate: certificate, Key: key}
}

// mint makes a certificate that ovs-pki does not make, signed by its CA.
func (p pki) mint(kind, name string, change func(*x509.Certificate)) (certificate, key string) {
	p.t.Helper()
	ca, err := tls.LoadX509KeyPair(p.ca(kind), filepath.Join(p.dir, "pki", kind+"ca", "private", "cakey.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	// As ovs-pki's: OpenSSL keeps one certificate of each type of key, and
	// another type would not replace the one that is in use.
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		p.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, ca.Leaf, &private.PublicKey, ca.PrivateKey)
	if err != nil {
		p.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		p.t.Fatal(err)
	}
	certificate, key = filepath.Join(p.dir, name+"-cert.pem"), filepath.Join(p.dir, name+"-privkey.pem")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	return certificate, key
}

// The switch listens (pssl:), we dial: what must work works, and whatever is
// wrong with a certificate says so.
func TestMutualTLS(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofta")
	keys := newPKI(t)
	swCertificate, swKey := keys.issue("hv-1", "switch")
	useTLS := func(certificate, key string) {
		t.Helper()
		if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, keys.ca("controller")); err != nil {
			t.Fatal(err)
		}
	}
	useTLS(swCertificate, swKey)
	if _, err := sw.Ctl(ctx, "set-controller", "plofta", "pssl:16653:127.0.0.1", "ptcp:16654:127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	const target = "ssl:127.0.0.1:16653"
	good := keys.controller("platelet")
	stranger := newPKI(t).controller("stranger")

	c, err := Dialer{TLS: good}.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Commit(ctx, Tx{Flows: manyFlows(1000)}); err != nil {
		t.Fatal(err)
	}
	if flows, err := c.Flows(ctx, FlowFilter{Table: 7}); err != nil || len(flows) != 1000 {
		t.Fatalf("%d flows, %v", len(flows), err)
	}

	with := func(change func(*TLS)) TLS { s := good; change(&s); return s }
	expired, expiredKey := keys.mint("controller", "late", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for name, c := range map[string]struct {
		target string
		tls    TLS
		want   string
	}{
		"named":                      {target, with(func(s *TLS) { s.Names = map[string]string{"127.0.0.1": "hv-1", "10.0.0.1": "hv-2"} }), ""},
		"another switch's name":      {target, with(func(s *TLS) { s.Names = map[string]string{"127.0.0.1": "hv-2"} }), "not hv-2"},
		"wrong CA":                   {target, with(func(s *TLS) { s.CA = stranger.CA }), "unknown authority"},
		"CA is no certificate":       {target, with(func(s *TLS) { s.CA = good.Key }), "holds no certificate"},
		"no CA":                      {target, with(func(s *TLS) { s.CA = "" }), "CA of the peers"},
		"no certificate":             {target, with(func(s *TLS) { s.Certificate = "" }), "own certificate"},
		"another's key":              {target, with(func(s *TLS) { s.Key = stranger.Key }), "private key does not match"},
		"certificate of a stranger":  {target, TLS{CA: good.CA, Certificate: stranger.Certificate, Key: stranger.Key}, "the switch refused our certificate"},
		"expired certificate":        {target, TLS{CA: good.CA, Certificate: expired, Key: expiredKey}, "the switch refused our certificate"},
		"plain TCP at a TLS port":    {"tcp:127.0.0.1:16653", good, "does the switch want TLS"},
		"TLS at a port of plain TCP": {"ssl:127.0.0.1:16654", good, "no TLS on the other side"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := Dialer{TLS: c.tls}.Dial(ctx, c.target)
			if err == nil {
				err = conn.Barrier(ctx)
				conn.Close()
			}
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			t.Log(err)
		})
	}
	for name, change := range map[string]func(*x509.Certificate){
		"has expired":            func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"incompatible key usage": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} },
	} {
		t.Run("certificate of the switch "+name, func(t *testing.T) {
			useTLS(keys.mint("switch", "bad", change))
			defer useTLS(swCertificate, swKey)
			_, err := Dialer{TLS: good}.Dial(ctx, target)
			var invalid *tls.CertificateVerificationError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			t.Log(err)
		})
	}
	if err := c.Barrier(ctx); err != nil {
		t.Errorf("the standing connection: %v", err)
	}
}

// Certificates are renewed under a running controller: the same Dialer uses
// what is in the files when it dials.
func TestCertificatesAreReadAnew(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "ploftb")
	before, after := newPKI(t), newPKI(t)
	certificate, key := before.issue("hv-1", "switch")
	if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, before.ca("controller"), "--", "set-controller", "ploftb", "pssl:16653:127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	d := Dialer{TLS: before.controller("platelet")}
	if _, err := d.Dial(ctx, "ssl:127.0.0.1"); err == nil {
		t.Fatal("there is no switch at the default port here")
	}
	c, err := d.Dial(ctx, "ssl:127.0.0.1:16653")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	certificate, key = after.issue("hv-1", "switch")
	if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, after.ca("controller")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(ctx, "ssl:127.0.0.1:16653"); err == nil {
		t.Fatal("the old files still do")
	}
	renewed := after.controller("platelet")
	for from, to := range map[string]string{renewed.CA: d.TLS.CA, renewed.Certificate: d.TLS.Certificate, renewed.Key: d.TLS.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	next, err := d.Dial(ctx, "ssl:127.0.0.1:16653")
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := errors.Join(c.Barrier(ctx), next.Barrier(ctx)); err != nil {
		t.Error(err)
	}
}

// The switch dials us (pssl: here, ssl: there).
func TestSwitchesDialUsOverTLS(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "ploftc")
	keys := newPKI(t)
	refused := make(chan error, 16)
	l, err := Dialer{TLS: keys.controller("platelet")}.Listen(ctx, "pssl:0:127.0.0.1", func(_ net.Addr, err error) {
		select {
		case refused <- err:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	awaitRefusal := func(want string) {
		t.Helper()
		for {
			select {
			case err := <-refused:
				t.Log(err)
				if strings.Contains(err.Error(), want) {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("nobody was refused with %q", want)
			}
		}
	}
	target := l.Addr().String()
	strangers := newPKI(t)
	certificate, key := strangers.issue("hv-1", "switch")
	if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, keys.ca("controller"), "--", "set-fail-mode", "ploftc", "secure",
		"--", "set-controller", "ploftc", "ssl:"+target); err != nil {
		t.Fatal(err)
	}
	awaitRefusal("unknown authority")
	certificate, key = keys.issue("hv-1", "switch")
	if _, err := sw.Ctl(ctx, "set-ssl", key, certificate, keys.ca("controller")); err != nil {
		t.Fatal(err)
	}
	c, err := l.Dial(ctx, datapathID(ctx, t, sw, "ploftc"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Barrier(ctx); err != nil {
		t.Error(err)
	}
	for _, p := range []struct {
		config *tls.Config
		want   string
	}{
		{&tls.Config{InsecureSkipVerify: true}, "didn't provide a certificate"},
		{&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "unsupported versions"},
	} {
		nc, err := (&tls.Dialer{Config: p.config}).DialContext(ctx, "tcp", target)
		if err == nil {
			_, err = nc.Read(make([]byte, 1))
			nc.Close()
		}
		if err == nil {
			t.Error("a bad switch was let in")
		}
		awaitRefusal(p.want)
	}
	nc, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write(appendHello(nil, 1)); err != nil {
		t.Fatal(err)
	}
	awaitRefusal("no TLS on the other side")
}

// A switch that offers old versions alone is refused, not spoken to.
func TestOldTLSIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	keys := newPKI(t)
	certificate, err := tls.LoadX509KeyPair(keys.issue("hv-1", "switch"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if nc, err := l.Accept(); err == nil {
			_, _ = nc.Read(make([]byte, 1))
			nc.Close()
		}
	}()
	_, err = Dialer{TLS: keys.controller("platelet")}.Dial(ctx, "ssl:"+l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "the switch refused our certificate or version of TLS") {
		t.Fatalf("got %v", err)
	}
}

// manyFlows are flows of a size that takes several messages to read back.
func manyFlows(n int) []FlowMod {
	out := make([]FlowMod, n)
	for i := range out {
		out[i] = FlowMod{Flow: Flow{Table: 7, Priority: 9, Match: Match{Reg(3, uint32(i), 0xffffffff)}}}
	}
	return out
}

// A switch that takes nothing any more does not hold up the end of the
// connection: TLS would wait 5 s to say farewell.
func TestTLSFarewellIsShort(t *testing.T) {
	settles(t)
	keys := newPKI(t)
	certificate, err := tls.LoadX509KeyPair(keys.issue("hv-1", "switch"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe() // takes what the other side reads, no more
	defer theirs.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		newPeer(tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{certificate}})).shakeHands(1)
	}()
	c, err := patient().handshake(t.Context(), tls.Client(ours, keys.controller("platelet").Client("hv-1")))
	if err != nil {
		t.Fatal(err)
	}
	<-done
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(4 * time.Second):
		t.Error("Close waits for a peer that takes nothing")
	}
}
