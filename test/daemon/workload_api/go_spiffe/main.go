// Asks the Workload API through go-spiffe and prints, a line of JSON for each answer, what that library makes of it: it judges with code of its own.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	begun := time.Now()
	client, err := workloadapi.New(ctx)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	if len(os.Args) > 1 && os.Args[1] == "watch" {
		watch(ctx, client)
		return
	}
	x509(ctx, client, begun)
	jwt(ctx, client)
}

func x509(ctx context.Context, client *workloadapi.Client, begun time.Time) {
	answer, err := client.FetchX509Context(ctx)
	if err != nil {
		fail(err)
	}
	took := time.Since(begun)
	svid := answer.DefaultSVID()
	verified, _, err := x509svid.Verify(svid.Certificates, answer.Bundles)
	if err != nil {
		fail(err)
	}
	bundles, err := client.FetchX509Bundles(ctx)
	if err != nil {
		fail(err)
	}
	print(map[string]any{
		"id": svid.ID.String(), "verified": verified.String(), "chain": len(svid.Certificates),
		"trusts": bundles.Has(svid.ID.TrustDomain()), "tookMs": took.Milliseconds(),
	})
}

func jwt(ctx context.Context, client *workloadapi.Client) {
	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "one", ExtraAudiences: []string{"two"}})
	if err != nil {
		fail(err)
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		fail(err)
	}
	// By the library, with the bundle that the API gave; then by the API itself.
	parsed, err := jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{"two"})
	if err != nil {
		fail(err)
	}
	validated, err := client.ValidateJWTSVID(ctx, token.Marshal(), "one")
	if err != nil {
		fail(err)
	}
	_, refused := client.FetchJWTSVID(ctx, jwtsvid.Params{
		Audience: "one", Subject: spiffeid.RequireFromPath(token.ID.TrustDomain(), "/another"),
	})
	print(map[string]any{
		"parsed": parsed.ID.String(), "validated": validated.ID.String(), "audience": validated.Audience,
		"another": status.Code(refused).String(),
	})
}

type watcher struct{ cancel context.CancelFunc }

// A line for each update, until the API denies or the second identity has come.
func watch(ctx context.Context, client *workloadapi.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client.WatchX509Context(ctx, &watcher{cancel})
}

func (w *watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	print(map[string]any{"id": update.DefaultSVID().ID.String()})
}

func (w *watcher) OnX509ContextWatchError(err error) {
	print(map[string]any{"error": status.Code(err).String()})
	w.cancel()
}

func print(line map[string]any) {
	json.NewEncoder(os.Stdout).Encode(line)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
