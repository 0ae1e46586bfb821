// What one open stream is told, and when that is something new: an X509-SVID with its key, or the bundles.

import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { TrustBundle } from "../../trust_bundle.ts";
import { writeJwtBundle } from "../../trust_bundle.ts";
import type { Assignment } from "../registry.ts";
import { renewalTime } from "../renewal.ts";
import type { Caller } from "./caller.ts";
import type { Identified } from "./identity.ts";
import type { KeyedSvid, SvidIssuer } from "./issuer.ts";
import type { Ledger } from "./ledger.ts";
import { encodeJwtBundlesResponse, encodeX509BundlesResponse, encodeX509SvidResponse } from "./message.ts";
import { CallRefusal } from "./refusal.ts";
import { type BundleSource, type RootBook, x509Bundles } from "./root_book.ts";

export interface FeedParts extends BundleSource {
  readonly authority: NodeAuthority;
  readonly issuer: SvidIssuer;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly roots: RootBook;
}

export interface Feed {
  /** The whole state to be sent, or undefined when the stream has it. Rejects with CallRefusal when it may not have it, or with what the CA throws. */
  next(caller: Caller, identified: Identified): Promise<Uint8Array | undefined>;
  /** Is there nothing to be sent now? Only asks, so that many can be asked in one look at the store; not every feed can tell. */
  isCurrent?(identified: Identified): boolean;
  /** When there will be something new without a change of rules; undefined: never. */
  readonly renewAt: number | undefined;
  /** When what was sent is void; undefined: it never is. */
  readonly endsAt: number | undefined;
}

/** Of the assignment only what another one is compared with: there are as many terms as workloads. */
interface Term {
  readonly spiffeId: string;
  readonly lifetimeSeconds: number;
  readonly dnsNames: readonly string[];
  readonly serial: string;
  /** Of the authority, when it was signed. */
  readonly epoch: number;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly renewAt: number;
}

/** One workload's X509-SVID through its renewals: says when it needs another, and has that signed. */
export class SvidTerm {
  readonly #parts: FeedParts;
  #term: Term | undefined;

  constructor(parts: FeedParts) {
    this.#parts = parts;
  }

  get renewAt(): number | undefined {
    return this.#term?.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#term?.notAfter;
  }

  /** Is what was issued last good for what rules and roots now say? Not before half of its life is over, nor when the clock was set back before its beginning. */
  isGood({ assignment }: Identified): boolean {
    const term = this.#term;
    const now = this.#parts.clock.now();
    if (term === undefined || now < term.notBefore || now >= term.renewAt) return false;
    const { authority } = this.#parts;
    return isSame(term, assignment) && term.epoch === authority.epoch && !authority.isRevoked(term.serial);
  }

  /** With a new key, which is wiped after its use. Rejects with CallRefusal where the rule delivers no key. */
  issue<T>(caller: Caller, identified: Identified, use: (svid: KeyedSvid) => T): Promise<T> {
    const { clock, issuer } = this.#parts;
    requireDelivery(identified.assignment);
    const issuedAt = clock.now();
    return issuer.issue(caller, identified, (svid) => {
      this.#begin(svid, { caller, identified, issuedAt });
      return use(svid);
    });
  }

  #begin(svid: KeyedSvid, by: { caller: Caller; identified: Identified; issuedAt: number }): void {
    const { ledger, random } = this.#parts;
    const { caller, identified, issuedAt } = by;
    const { spiffeId, lifetimeSeconds, dnsNames } = identified.assignment;
    const earlier = this.#term?.spiffeId;
    if (earlier !== undefined && earlier !== spiffeId.toString())
      ledger.withdraw(caller, "the rules give the process another identity", spiffeId);
    const { serial, epoch } = svid;
    const [notBefore, notAfter] = [svid.notBefore.getTime(), svid.notAfter.getTime()];
    this.#term = {
      spiffeId: spiffeId.toString(),
      lifetimeSeconds,
      dnsNames,
      serial,
      epoch,
      notBefore,
      notAfter,
      renewAt: renewalTime({ issuedAt, notAfter }, random()),
    };
  }
}

export function requireDelivery({ delivery, rule }: Assignment): void {
  if (delivery === "workload-api") return;
  const remedy = "set spec.svid.x509.delivery: workload-api there for a program that must hold its key itself";
  throw new CallRefusal("permissionDenied", `${rule} keeps private keys in the kernel; ${remedy}`);
}

/** The workload's own X509-SVID, where its rule delivers one: with a new key each time. */
export class X509Feed implements Feed {
  readonly #parts: FeedParts;
  readonly #term: SvidTerm;
  /** Digest of the roots that were sent beside the SVID: there are as many of these as workloads. */
  #bundles = "";

  constructor(parts: FeedParts) {
    this.#parts = parts;
    this.#term = new SvidTerm(parts);
  }

  get renewAt(): number | undefined {
    return this.#term.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#term.endsAt;
  }

  isCurrent(identified: Identified): boolean {
    requireDelivery(identified.assignment);
    return this.#bundles === this.#parts.roots.current().digest && this.#term.isGood(identified);
  }

  async next(caller: Caller, identified: Identified): Promise<Uint8Array | undefined> {
    if (this.isCurrent(identified)) return undefined;
    return this.#term.issue(caller, identified, ({ chain, privateKey }) => {
      // As they are by now: the stream is told of a change after this one, or has it.
      const roots = this.#parts.roots.current();
      this.#bundles = roots.digest;
      const spiffeId = identified.assignment.spiffeId.toString();
      return encodeX509SvidResponse({ spiffeId, chain, privateKey }, roots);
    });
  }
}

/** The bundles of one kind: for every workload that has an identity. */
export class BundleFeed implements Feed {
  readonly renewAt = undefined;
  readonly endsAt = undefined;
  readonly #write: () => Uint8Array;
  #sent: Uint8Array | undefined;

  constructor(kind: "x509" | "jwt", { bundle, foreignBundles }: Pick<FeedParts, "bundle" | "foreignBundles">) {
    const all = () => [bundle(), ...foreignBundles()];
    this.#write = () =>
      kind === "x509" ? encodeX509BundlesResponse(x509Bundles(all())) : encodeJwtBundlesResponse(jwtBundles(all()));
  }

  async next(): Promise<Uint8Array | undefined> {
    const message = this.#write();
    if (isEqual(this.#sent, message)) return undefined;
    this.#sent = message;
    return message;
  }
}

function jwtBundles(bundles: readonly TrustBundle[]): ReadonlyMap<string, Uint8Array> {
  return new Map(bundles.map((bundle) => [bundle.trustDomain.id.toString(), Buffer.from(writeJwtBundle(bundle))]));
}

export function isEqual(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && Buffer.compare(a, b) === 0;
}

function isSame(a: Term, b: Assignment): boolean {
  return (
    a.spiffeId === b.spiffeId.toString() &&
    a.lifetimeSeconds === b.lifetimeSeconds &&
    a.dnsNames.length === b.dnsNames.length &&
    a.dnsNames.every((name, index) => name === b.dnsNames[index])
  );
}
