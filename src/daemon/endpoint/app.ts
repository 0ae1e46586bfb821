// What the daemon says of itself over HTTP, as hono applications apart from their listeners: its trust bundle, OIDC discovery, health and metrics. They change nothing.

import { type Context, Hono } from "hono";
import { describeDiscovery, writeKeySet } from "../../federation/discovery.ts";
import { type TrustBundle, writeTrustBundle } from "../../trust_bundle.ts";

export const BUNDLE_PATH = "/bundle";
export const CRL_PATH = "/crl";

/** What this node publishes; asked for at each request, so that an answer is never older than the authorities. */
export interface PublishedTrust {
  bundle(): TrustBundle;
  /** DER of the CRL of this node's intermediate. */
  crl?(): Uint8Array;
}

export interface WebAppOptions {
  /** The URL under which OIDC discovery is served; undefined: it is not. Without a slash at its end. */
  readonly issuer: string | undefined;
}

export interface HealthSource {
  isReady(): boolean;
  metrics(): string;
}

const JSON_TYPE = "application/json";

/** SPIFFE Federation sections 5.2.1.3 and 5.2.2.3. */
export function createBundleApp(trust: PublishedTrust): Hono {
  const app = newApp();
  addBundle(app, trust);
  return app;
}

/** The bundle, and OIDC discovery (OpenID Connect Discovery 1.0 section 4) where an issuer is configured. */
export function createWebApp(trust: PublishedTrust, { issuer }: WebAppOptions): Hono {
  const app = newApp();
  addBundle(app, trust);
  addCrl(app, trust);
  if (issuer === undefined) return app;
  const path = new URL(issuer).pathname.replace(/\/$/, "");
  app.get(`${path}/.well-known/openid-configuration`, (c) =>
    answer(c, JSON.stringify(describeDiscovery(issuer, trust.bundle().jwt)), JSON_TYPE),
  );
  app.get(`${path}/keys`, async (c) => answer(c, await writeKeySet(trust.bundle().jwt), JSON_TYPE));
  return app;
}

/** For probes and collectors of this machine. */
export function createHealthApp(source: HealthSource): Hono {
  const app = newApp();
  app.get("/live", (c) => c.json({ live: true }));
  app.get("/ready", (c) => {
    const isReady = source.isReady();
    return c.json({ ready: isReady }, isReady ? 200 : 503);
  });
  app.get("/metrics", (c) => answer(c, source.metrics(), "text/plain; version=0.0.4"));
  return app;
}

function newApp(): Hono {
  const app = new Hono();
  app.notFound((c) => c.json({ code: "not_found" }, 404));
  // What went wrong is for the log of the listener, not for whoever asks.
  app.onError((thrown) => {
    throw thrown;
  });
  return app;
}

function addBundle(app: Hono, trust: PublishedTrust): void {
  app.get(BUNDLE_PATH, (c) => answer(c, writeTrustBundle(trust.bundle()), JSON_TYPE));
}

/** RFC 5280 section 4.2.1.13 and RFC 2585 section 4.2. Over HTTP, as CRLs are: they carry their own signature. */
function addCrl(app: Hono, { crl }: PublishedTrust): void {
  if (crl === undefined) return;
  app.get(CRL_PATH, (c) =>
    c.body(Uint8Array.from(crl()), 200, { "content-type": "application/pkix-crl", "cache-control": "no-cache" }),
  );
}

function answer(c: Context, text: string, type: string): Response {
  // Whoever keeps a copy asks whether it is still good: a key may have been withdrawn.
  return c.body(text, 200, { "content-type": type, "cache-control": "no-cache", "x-content-type-options": "nosniff" });
}
