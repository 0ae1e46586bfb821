// Answers the module's questions about peers: chain in, SPIFFE ID and key or a TLS alert out. Remembers which serials and root an answer rests on.

import type { BodyOf } from "../abi.ts";
import type { NodeAuthority } from "../ca.ts";
import type { IssuedPath, MayIssue } from "../federation/roster.ts";
import { SpiffeId, type TrustDomain } from "../spiffe_id.ts";
import type { BundleOf } from "../trust_bundle.ts";
import type { Log } from "./log.ts";

const NO_KEY = new Uint8Array(65);
/** As many answers as the module itself caches (kernel/limits.h). */
const REMEMBERED_MAX = 4096;

interface Remembered {
  readonly spiffeId: SpiffeId;
  /** DER of the root that its path ends in. */
  readonly root: Uint8Array;
  /** From the leaf up: revoking one of them ends the answer. */
  readonly serials: readonly string[];
  /** Who signed each of them. */
  readonly signers: readonly string[];
}

export interface PeerParts {
  readonly authority: Pick<
    NodeAuthority,
    "verifyPeerChain" | "isRevoked" | "revokedIdReason" | "bundle" | "trustDomain"
  >;
  /** Of other trust domains. */
  readonly bundleOf: BundleOf;
  /** Whether the node that signed a good chain of our own trust domain may: the fleet's roster and revocations say. */
  judgePath(path: IssuedPath): MayIssue;
  readonly log: Log;
}

export class PeerBook {
  readonly #parts: PeerParts;
  /** By the leaf's serial, with its trust domain where that is not ours; the oldest goes first. */
  readonly #remembered = new Map<string, Remembered>();
  /** SPIFFE ID to the statement by which it was refused or cut off; the oldest goes first. */
  readonly #causes = new Map<string, string>();
  /** Counts of answers since start. */
  accepted = 0;
  refused = 0;

  constructor(parts: PeerParts) {
    this.#parts = parts;
  }

  /** VERIFIED for a VERIFY. Says what is wrong to the log, and no more than an alert to the peer. */
  verify({ ask, trustGeneration, chain, flow }: BodyOf<"verify">): BodyOf<"verified"> {
    const answer = this.#parts.authority.verifyPeerChain(chain, this.#parts.bundleOf);
    const may = answer.ok ? this.#judge(answer) : undefined;
    if (!answer.ok || may?.ok === false) {
      this.refused += 1;
      const { code, message, alert } = answer.ok ? refusalOf(may) : answer;
      const statement = may?.ok === false ? may.statement : undefined;
      this.#parts.log.warn("a peer was refused", { flow, code, reason: message, alert, statement });
      return { ask, trustGeneration, notAfter: 0n, alert, spiffeId: "", publicKey: NO_KEY };
    }
    this.accepted += 1;
    const { spiffeId, publicKey } = answer;
    this.#remember(answer);
    const notAfter = BigInt(Math.floor(answer.notAfter.getTime() / 1000));
    return { ask, trustGeneration, notAfter, alert: 0, spiffeId: spiffeId.toString(), publicKey };
  }

  /** An SVID of this node ended with its process: nobody needs to be cut off for it. */
  forget(serial: string): void {
    this.#remembered.delete(serial);
  }

  /** Forgets and returns the IDs of accepted peers that would be refused now: some certificate is revoked since, or the root is trusted no longer. */
  takeRevoked(): readonly string[] {
    const ended = [...this.#remembered].filter(([, answer]) => this.#isEnded(answer));
    for (const [leaf] of ended) this.#remembered.delete(leaf);
    return [...new Set(ended.map(([, { spiffeId }]) => spiffeId.toString()))];
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
  #judge({ spiffeId, serials, signers }: Omit<Remembered, "root">): MayIssue | undefined {
    if (spiffeId.trustDomain.name !== this.#parts.authority.trustDomain) return undefined;
    const certificates = serials.map((serial, i) => ({ serial, authority: signers[i] ?? "" }));
    return this.#parts.judgePath({ spiffeId: spiffeId.toString(), certificates });
  }

  #isEnded(answer: Remembered): boolean {
    const { spiffeId, serials, root } = answer;
    const may = this.#judge(answer);
    if (may?.ok === false) {
      this.#noteCause(spiffeId.toString(), may.statement);
      return true;
    }
    const { authority } = this.#parts;
    if (authority.revokedIdReason(spiffeId) !== undefined || serials.some((serial) => authority.isRevoked(serial)))
      return true;
    return !this.#rootsOf(spiffeId.trustDomain).some((trusted) => Buffer.compare(trusted, root) === 0);
  }

  #noteCause(spiffeId: string, statement: string | undefined): void {
    this.#causes.delete(spiffeId);
    if (statement === undefined) return;
    this.#causes.set(spiffeId, statement);
    const oldest = this.#causes.size > REMEMBERED_MAX ? this.#causes.keys().next().value : undefined;
    if (oldest !== undefined) this.#causes.delete(oldest);
  }

  #rootsOf(trustDomain: TrustDomain): readonly Uint8Array[] {
    const { authority, bundleOf } = this.#parts;
    return trustDomain.name === authority.trustDomain ? authority.bundle : (bundleOf(trustDomain)?.x509 ?? []);
  }

  #remember({ spiffeId, serials, signers, root }: Remembered): void {
    const [leaf] = serials;
    if (leaf === undefined) return;
    // Two trust domains may use one serial number.
    const key =
      spiffeId.trustDomain.name === this.#parts.authority.trustDomain ? leaf : `${spiffeId.trustDomain} ${leaf}`;
    this.#remembered.delete(key);
    this.#remembered.set(key, { spiffeId, serials, signers, root });
    const oldest = this.#remembered.size > REMEMBERED_MAX ? this.#remembered.keys().next().value : undefined;
    if (oldest !== undefined) this.#remembered.delete(oldest);
  }
}

/** RFC 8446 section 6.2: certificate_revoked, or access_denied for a good certificate that may not be used so. */
const ALERT = { revoked: 44, denied: 49 } as const;

function refusalOf(may: MayIssue | undefined): { code: string; message: string; alert: number } {
  if (may === undefined || may.ok) throw new TypeError("it was accepted");
  const { code, message } = may;
  return { code, message, alert: code.endsWith("_revoked") ? ALERT.revoked : ALERT.denied };
}
