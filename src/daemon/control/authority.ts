// The routes of the control API for authorities, revocation and what was signed. Decides nothing: every answer is the port's.

import type { Hono } from "hono";
import type { AuthorityKind, AuthorityList, SignedQuery, SignedSvid, StepDone, StepOptions } from "../../ca.ts";
import { RiprapError } from "../../error.ts";
import { KEEPS } from "../../fleet.ts";
import type { RevocationPort } from "./port.ts";
import { parseCount, parseFlag, parseText, readBody } from "./request.ts";

export interface AuthorityEventView {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly id: string;
  readonly kind: AuthorityKind;
  readonly event: string;
  readonly forced: boolean;
  readonly reason: string;
}

/** Failures are RiprapError: `authority_unknown`, `authority_phase`, `authority_too_early`, `authority_in_use`, `authority_prepared`, `root_not_here`. */
export interface AuthorityPort {
  list(): AuthorityList;
  /** The latest steps first. */
  events(limit: number): readonly AuthorityEventView[];
  prepare(kind: AuthorityKind, options: StepOptions): Promise<StepDone>;
  activate(id: string, options: StepOptions): Promise<StepDone>;
  taint(id: string, options: StepOptions): Promise<StepDone>;
  revoke(id: string, options: StepOptions): Promise<StepDone>;
  renewIntermediate(options: StepOptions): Promise<StepDone>;
  /** PKCS#10 in PEM for a CA outside of riprap. */
  request(role: "intermediate" | "issuing"): Promise<string>;
  /** Its answer, certificates in PEM. Further codes: `csr_missing`, `upstream_malformed`, `upstream_wrong_key`, … */
  install(pem: string, options: StepOptions): Promise<StepDone>;
}

export interface AuthorityRoutes {
  readonly authorities: AuthorityPort;
  readonly revocation: RevocationPort;
  signed(query: SignedQuery): readonly SignedSvid[];
  /** PEM of the CRL of this node's intermediate. */
  crl(): string;
}

const KINDS: readonly AuthorityKind[] = ["x509", "jwt", "wit"];
const TYPES: readonly SignedSvid["type"][] = ["x509", "jwt", "wit"];
/** Certificates in PEM with the comments that openssl writes around each. */
const UPSTREAM_BYTES_MAX = 128 * 1024;
const REASON_CHARS_MAX = 256;

export function addAuthorityRoutes(app: Hono, { authorities, revocation, signed, crl }: AuthorityRoutes): void {
  const optionsOf = (query: (name: string) => string | undefined): StepOptions => ({
    force: parseFlag(query("force")),
    reason: parseReason(query("reason")),
  });
  const id = (query: (name: string) => string | undefined) => parseText(query("id"), "id");
  app.get("/v1/authorities", (c) => c.json(authorities.list()));
  app.get("/v1/authorities/events", (c) => c.json(authorities.events(parseCount(c.req.query("limit")))));
  app.post("/v1/authorities/prepare", async (c) => {
    const kind = oneOf(KINDS, parseText(c.req.query("kind"), "kind"));
    return c.json(
      await authorities.prepare(
        kind,
        optionsOf((name) => c.req.query(name)),
      ),
    );
  });
  for (const step of ["activate", "taint", "revoke"] as const) {
    app.post(`/v1/authorities/${step}`, async (c) => {
      const query = (name: string) => c.req.query(name);
      return c.json(await authorities[step](id(query), optionsOf(query)));
    });
  }
  app.post("/v1/authorities/renew", async (c) =>
    c.json(await authorities.renewIntermediate(optionsOf((name) => c.req.query(name)))),
  );
  app.post("/v1/authorities/csr", async (c) =>
    c.json({ pem: await authorities.request(parseFlag(c.req.query("issuing")) ? "issuing" : "intermediate") }),
  );
  app.post("/v1/authorities/install", async (c) => {
    const pem = await readBody(c.req.raw, UPSTREAM_BYTES_MAX);
    return c.json(
      await authorities.install(
        pem,
        optionsOf((name) => c.req.query(name)),
      ),
    );
  });
  app.post("/v1/revoke", async (c) => {
    const query = (name: string) => c.req.query(name);
    const target = parseText(query("target"), "target");
    const flags = { force: parseFlag(query("force")), isLocal: parseFlag(query("local")) };
    const keep = oneOf(KEEPS, query("keep") ?? "all");
    const options = { reason: parseReason(query("reason")), keep, ...flags };
    return c.json(await (parseFlag(query("lift")) ? revocation.lift(target) : revocation.revoke(target, options)));
  });
  app.get("/v1/revocations", (c) => c.json(revocation.list()));
  app.get("/v1/signed", (c) => {
    const type = c.req.query("type");
    const spiffeId = c.req.query("id");
    return c.json(
      signed({
        limit: parseCount(c.req.query("limit")),
        ...(type === undefined ? {} : { type: oneOf(TYPES, type) }),
        ...(spiffeId === undefined ? {} : { spiffeId: parseText(spiffeId, "id") }),
      }),
    );
  });
  app.get("/v1/crl", (c) => c.text(crl()));
}

function oneOf<T extends string>(words: readonly T[], text: string): T {
  const word = words.find((known) => known === text);
  if (word !== undefined) return word;
  throw new RiprapError("invalid", `Cannot read the request: it is none of ${words.join(", ")}`);
}

function parseReason(text: string | undefined): string {
  return (text ?? "").slice(0, REASON_CHARS_MAX);
}
