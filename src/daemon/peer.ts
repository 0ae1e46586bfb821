// Answers the module's questions about peers: chain in, SPIFFE ID and key or a TLS alert out. Remembers which serials and root an answer rests on.

import { hash } from "node:crypto";
import type { BodyOf } from "../abi.ts";
import type { NodeAuthority, PeerAccepted } from "../ca.ts";
import type { Clock } from "../clock.ts";
import type { IssuedPath, MayIssue } from "../federation/roster.ts";
import { SpiffeId, type TrustDomain } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import type { BundleOf } from "../trust_bundle.ts";
import type { Log } from "./log.ts";
import { type AcceptedPath, PeerMemory } from "./peer/memory.ts";

const NO_KEY = new Uint8Array(65);
/** Each with the statement that ended it. */
const CAUSES_MAX = 4096;

export interface PeerParts {
  readonly authority: Pick<
    NodeAuthority,
    "verifyPeerChain" | "isRevoked" | "revokedIdReason" | "bundle" | "trustDomain"
  >;
  /** Of other trust domains. */
  readonly bundleOf: BundleOf;
  /** Whether the node that signed a good chain of our own trust domain may: the fleet's roster and revocations say. */
  judgePath(path: IssuedPath): MayIssue;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

/** A peer that was accepted and would be refused now. */
export interface EndedPeer {
  readonly leaf: string;
  readonly spiffeId: string;
}

export class PeerBook {
  readonly #parts: PeerParts;
  readonly #memory: PeerMemory;
  /** SPIFFE ID to the statement by which it was refused or cut off; the oldest goes first. */
  readonly #causes = new Map<string, string>();
  /** Counts of answers since start. */
  accepted = 0;
  refused = 0;

  constructor(parts: PeerParts) {
    this.#parts = parts;
    this.#memory = new PeerMemory(parts.store, parts.log);
  }

  /** VERIFIED for a VERIFY. Says what is wrong to the log, and no more than an alert to the peer. */
  verify({ ask, trustGeneration, chain, flow }: BodyOf<"verify">): BodyOf<"verified"> {
    const answer = this.#parts.authority.verifyPeerChain(chain, this.#parts.bundleOf);
    const may = answer.ok ? this.#judge(pathOf(answer), answer.spiffeId.trustDomain) : undefined;
    if (!answer.ok || may?.ok === false) {
      this.refused += 1;
      const { code, message, alert } = answer.ok ? refusalOf(may) : answer;
      const statement = may?.ok === false ? may.statement : undefined;
      this.#parts.log.warn("a peer was refused", { flow, code, reason: message, alert, statement });
      return { ask, trustGeneration, notAfter: 0n, alert, spiffeId: "", publicKey: NO_KEY };
    }
    this.accepted += 1;
    const { spiffeId, publicKey, serials, root } = answer;
    const leaf = leafKey(spiffeId.trustDomain.name, serials[0] ?? "");
    const path = { ...pathOf(answer), root: hash("sha256", root), notAfter: answer.notAfter.getTime() };
    this.#memory.put(leaf, path, this.#parts.clock.now());
    const notAfter = BigInt(Math.floor(answer.notAfter.getTime() / 1000));
    return { ask, trustGeneration, notAfter, alert: 0, spiffeId: spiffeId.toString(), publicKey };
  }

  /** An SVID of this node ended with its process: nobody needs to be cut off for it. */
  forget(serial: string): void {
    this.#memory.delete([leafKey(this.#parts.authority.trustDomain, serial)]);
  }

  /** Peers that this daemon or an earlier one accepted and that would be refused now: some certificate is revoked since, or the root is trusted no longer. */
  listEnded(): readonly EndedPeer[] {
    const isTrusted = this.#trustedRoots();
    return [...this.#memory].flatMap(([leaf, path]) =>
      this.#isEnded(path, isTrusted) ? [{ leaf, spiffeId: path.spiffeId }] : [],
    );
  }

  /** They are cut off; one that is forgotten before may live on through the end of this daemon. */
  forgetEnded(ended: readonly EndedPeer[]): void {
    this.#memory.delete(ended.map(({ leaf }) => leaf));
  }

  /** Is it known what the connections of this ID rest on? */
  remembers(spiffeId: string): boolean {
    return this.#memory.has(spiffeId);
  }

  /** Is it of a trust domain of which nothing is held? True for what an earlier daemon accepted, too. */
  isStranger(spiffeId: string): boolean {
    const trustDomain = SpiffeId.tryParse(spiffeId)?.trustDomain;
    return trustDomain !== undefined && this.#rootsOf(trustDomain).length === 0;
  }

  /** Hash of the statement by which who has this ID was cut off; undefined when none was, or no statement said so. */
  causeOf(spiffeId: string): string | undefined {
    const cause = this.#causes.get(spiffeId);
    if (cause !== undefined || spiffeId === "") return cause;
    // Of a path of no certificate only what is said of the ID itself can be known.
    const may = this.#parts.judgePath({ spiffeId, certificates: [] });
    return may.ok ? undefined : may.statement;
  }

  /** A chain of another trust domain is none of the roster's business. */
  #judge(path: IssuedPath, trustDomain: TrustDomain): MayIssue | undefined {
    return trustDomain.name === this.#parts.authority.trustDomain ? this.#parts.judgePath(path) : undefined;
  }

  #isEnded(path: AcceptedPath, isTrusted: (trustDomain: TrustDomain, root: string) => boolean): boolean {
    const spiffeId = SpiffeId.parse(path.spiffeId);
    const may = this.#judge(path, spiffeId.trustDomain);
    if (may?.ok === false) {
      this.#noteCause(path.spiffeId, may.statement);
      return true;
    }
    const { authority } = this.#parts;
    return (
      authority.revokedIdReason(spiffeId) !== undefined ||
      path.certificates.some(({ serial }) => authority.isRevoked(serial)) ||
      !isTrusted(spiffeId.trustDomain, path.root)
    );
  }

  #noteCause(spiffeId: string, statement: string | undefined): void {
    this.#causes.delete(spiffeId);
    if (statement === undefined) return;
    this.#causes.set(spiffeId, statement);
    const oldest = this.#causes.size > CAUSES_MAX ? this.#causes.keys().next().value : undefined;
    if (oldest !== undefined) this.#causes.delete(oldest);
  }

  #rootsOf(trustDomain: TrustDomain): readonly Uint8Array[] {
    const { authority, bundleOf } = this.#parts;
    return trustDomain.name === authority.trustDomain ? authority.bundle : (bundleOf(trustDomain)?.x509 ?? []);
  }

  /** Each root is hashed once, however many paths end in it. */
  #trustedRoots(): (trustDomain: TrustDomain, root: string) => boolean {
    const roots = new Map<string, ReadonlySet<string>>();
    return (trustDomain, root) => {
      const known =
        roots.get(trustDomain.name) ?? new Set(this.#rootsOf(trustDomain).map((der) => hash("sha256", der)));
      roots.set(trustDomain.name, known);
      return known.has(root);
    };
  }
}

/** Two trust domains may use one serial number. */
function leafKey(trustDomain: string, serial: string): string {
  return `${trustDomain} ${serial}`;
}

function pathOf({ spiffeId, serials, signers }: PeerAccepted): IssuedPath {
  const certificates = serials.map((serial, i) => ({ serial, authority: signers[i] ?? "" }));
  return { spiffeId: spiffeId.toString(), certificates };
}

/** RFC 8446 section 6.2: certificate_revoked, or access_denied for a good certificate that may not be used so. */
const ALERT = { revoked: 44, denied: 49 } as const;

function refusalOf(may: MayIssue | undefined): { code: string; message: string; alert: number } {
  if (may === undefined || may.ok) throw new TypeError("it was accepted");
  const { code, message } = may;
  return { code, message, alert: code.endsWith("_revoked") ? ALERT.revoked : ALERT.denied };
}
