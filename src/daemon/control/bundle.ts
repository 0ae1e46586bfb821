// The routes of the control API for trust bundles and the endpoints of this node. Decides nothing: every answer is the port's.

import type { Hono } from "hono";
import { MAP_BYTES_MAX } from "../../bundle_map.ts";
import { BUNDLE_BYTES_MAX } from "../../trust_bundle.ts";
import type { EndpointView } from "./port.ts";
import { parseFlag, parseText, readBody } from "./request.ts";

export interface BundleKeyView {
  readonly use: "x509-svid" | "jwt-svid" | "wit-svid";
  /** SHA-256 of a certificate, `kid` of a token key. */
  readonly key: string;
  readonly notAfter?: string;
}

export interface BundleView {
  readonly trustDomain: string;
  /** `own`: of this node's trust domain. */
  readonly source: "own" | "resource" | "command" | "endpoint" | "fleet";
  readonly fingerprint: string;
  /** Decimal digits: it may be greater than what JSON readers take for a number. Absent: it has none. */
  readonly sequence?: string;
  readonly refreshHintSeconds?: number;
  readonly takenAt?: string;
  readonly keys: readonly BundleKeyView[];
  /** What of the document was passed over, a sentence each. */
  readonly ignored: readonly string[];
}

/** A trust domain that the rules name, or our own. */
export interface DomainView {
  readonly trustDomain: string;
  readonly resource?: string;
  /** Absent: nothing is held, and every peer of it is refused. */
  readonly bundle?: Omit<BundleView, "keys" | "ignored"> & {
    readonly x509: number;
    readonly jwt: number;
    readonly wit: number;
  };
  readonly endpoint?: {
    readonly url: string;
    readonly profile: string;
    readonly spiffeId?: string;
    readonly failures: number;
    readonly fetchedAt?: string;
    readonly nextAt?: string;
    readonly error?: string;
  };
  /** What a person has pinned for the first contact over the broker. */
  readonly pin?: string;
  /** What is wrong with its first bundle, or with what the broker brings. */
  readonly fault?: string;
}

export interface SetView {
  readonly outcome: "taken" | "unchanged";
  readonly bundle: BundleView;
}

/** A trust domain of a bundle map. */
export interface LoadView {
  readonly trustDomain: string;
  /** Passed over: `own`, this node's authorities make it; `no_rule`, no TrustDomain resource names it. */
  readonly outcome: SetView["outcome"] | "own" | "no_rule";
  /** Absent when it was passed over. */
  readonly bundle?: BundleView;
}

/** Failures are RiprapError: `not_found`, `bundle_invalid`, `bundle_map_invalid`, `bundle_rollback`, `bundle_fingerprint`, `bundle_sequence_reused`, `pin_invalid`. */
export interface BundlePort {
  list(): readonly DomainView[];
  get(trustDomain: string): BundleView;
  /** The document of a bundle, as others read it: the whole, its JWT keys alone, or its roots in PEM. */
  document(trustDomain: string, format: BundleFormat): string;
  /** Every bundle that is held, our own among them, as a SPIFFE bundle map. */
  map(): string;
  set(trustDomain: string, document: string, options: { readonly isForced: boolean }): SetView;
  /** All bundles of a SPIFFE bundle map or none of them. */
  load(map: string, options: { readonly isForced: boolean }): readonly LoadView[];
  /** What the first bundle over the broker must have. */
  pin(trustDomain: string, fingerprint: string): { readonly trustDomain: string; readonly pin: string };
  endpoints(): readonly EndpointView[];
}

export const BUNDLE_FORMATS = ["spiffe", "jwks", "pem"] as const;
export type BundleFormat = (typeof BUNDLE_FORMATS)[number];

export function addBundleRoutes(app: Hono, port: BundlePort): void {
  app.get("/v1/bundles", (c) => c.json(port.list()));
  app.get("/v1/bundle_map", (c) => c.text(port.map()));
  app.post("/v1/bundle_map", async (c) => {
    const map = await readBody(c.req.raw, MAP_BYTES_MAX);
    return c.json(port.load(map, { isForced: parseFlag(c.req.query("force")) }));
  });
  app.get("/v1/endpoints", (c) => c.json(port.endpoints()));
  app.get("/v1/bundles/:trustDomain", (c) => {
    const trustDomain = c.req.param("trustDomain");
    const text = c.req.query("format");
    const format = BUNDLE_FORMATS.find((known) => known === text);
    return format === undefined ? c.json(port.get(trustDomain)) : c.text(port.document(trustDomain, format));
  });
  app.post("/v1/bundles/:trustDomain/pin", (c) => {
    const trustDomain = parseText(c.req.param("trustDomain"), "trustDomain");
    return c.json(port.pin(trustDomain, parseText(c.req.query("fingerprint"), "fingerprint")));
  });
  app.post("/v1/bundles/:trustDomain", async (c) => {
    const trustDomain = parseText(c.req.param("trustDomain"), "trustDomain");
    const document = await readBody(c.req.raw, BUNDLE_BYTES_MAX);
    return c.json(port.set(trustDomain, document, { isForced: parseFlag(c.req.query("force")) }));
  });
}
