// Fetches a bundle from an endpoint, or serves one, through go-spiffe: the other side of federation, with code of its own.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func main() {
	if len(os.Args) < 6 {
		fail(fmt.Errorf("too few arguments"))
	}
	trustDomain := spiffeid.RequireTrustDomainFromString(os.Args[2])
	switch os.Args[1] {
	case "spiffe":
		bundle := must(spiffebundle.Load(trustDomain, os.Args[4]))
		fetch(trustDomain, federation.WithSPIFFEAuth(bundle, spiffeid.RequireFromString(os.Args[5])))
	case "web":
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(must(os.ReadFile(os.Args[4])))
		fetch(trustDomain, federation.WithWebPKIRoots(roots))
	case "serve":
		serve(trustDomain)
	}
}

func fetch(trustDomain spiffeid.TrustDomain, option federation.FetchOption) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	bundle := must(federation.FetchBundle(ctx, trustDomain, os.Args[3], option))
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	print(map[string]any{
		"x509": len(bundle.X509Authorities()), "jwt": len(bundle.JWTAuthorities()),
		"sequence": sequence, "hint": hint.Seconds(),
	})
}

// serve answers on loopback until its standard input ends.
func serve(trustDomain spiffeid.TrustDomain) {
	bundle := must(spiffebundle.Load(trustDomain, os.Args[3]))
	svid := must(x509svid.Load(os.Args[4], os.Args[5]))
	certificate := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, each := range svid.Certificates {
		certificate.Certificate = append(certificate.Certificate, each.Raw)
	}
	handler := must(federation.NewHandler(trustDomain, bundle))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	print(map[string]any{"address": listener.Addr().String()})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fail(server.ServeTLS(listener, "", ""))
}

func must[T any](value T, err error) T {
	if err != nil {
		fail(err)
	}
	return value
}

func print(answer map[string]any) {
	fmt.Println(string(must(json.Marshal(answer))))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
