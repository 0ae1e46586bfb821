// What one open stream is told, and when that is something new: an X509-SVID with its key, or the bundles. Never waits.

import { type IssuedSvid, issueWithNewKey, type NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { TrustBundle } from "../../trust_bundle.ts";
import { writeJwtBundle } from "../../trust_bundle.ts";
import type { Assignment } from "../registry.ts";
import { renewalTime } from "../renewal.ts";
import type { Identified } from "./identity.ts";
import { encodeJwtBundlesResponse, encodeX509BundlesResponse, encodeX509SvidResponse } from "./message.ts";
import { concat } from "./protobuf.ts";
import { CallRefusal } from "./refusal.ts";

export interface FeedParts {
  readonly authority: NodeAuthority;
  readonly clock: Clock;
  readonly random: () => number;
  bundle(): TrustBundle;
}

export interface Feed {
  /** The whole state to be sent, or undefined when the stream has it. Throws CallRefusal when it may not have it, or what the CA throws. */
  next(identified: Identified): Uint8Array | undefined;
  /** When there will be something new without a change of rules; undefined: never. */
  readonly renewAt: number | undefined;
  /** When what was sent is void; undefined: it never is. */
  readonly endsAt: number | undefined;
  /** The rules take the identity away: what was issued for it is revoked. */
  withdraw(reason: string): void;
}

/** The workload's own X509-SVID, where its rule delivers one: with a new key each time. */
export class X509Feed implements Feed {
  readonly #parts: FeedParts;
  #held: { readonly assignment: Assignment; readonly svid: IssuedSvid; readonly renewAt: number } | undefined;

  constructor(parts: FeedParts) {
    this.#parts = parts;
  }

  get renewAt(): number | undefined {
    return this.#held?.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#held?.svid.notAfter.getTime();
  }

  next({ assignment, evidence }: Identified): Uint8Array | undefined {
    const { authority, clock, random } = this.#parts;
    if (assignment.delivery !== "workload-api") {
      const remedy = "set spec.svid.x509.delivery: workload-api there for a program that must hold its key itself";
      throw new CallRefusal("permissionDenied", `${assignment.rule} keeps private keys in the kernel; ${remedy}`);
    }
    const held = this.#held;
    const now = clock.now();
    if (held !== undefined && now < held.renewAt && isSame(held.assignment, assignment)) return undefined;
    const { spiffeId, lifetimeSeconds, dnsNames, rule, because } = assignment;
    const { pid, exe, uid } = evidence;
    const context = { by: "workload-api", pid, exe, uid, rule, because };
    const { privateKey, ...svid } = issueWithNewKey(authority, { spiffeId, lifetimeSeconds, dnsNames, context });
    if (held !== undefined && !held.assignment.spiffeId.equals(spiffeId))
      this.withdraw("the rules give the process another identity");
    const term = { issuedAt: now, notAfter: svid.notAfter.getTime() };
    this.#held = { assignment, svid, renewAt: renewalTime(term, random()) };
    const { chain } = svid;
    try {
      const answer = { spiffeId: spiffeId.toString(), chain, privateKey, bundle: authority.bundle };
      return encodeX509SvidResponse([answer]);
    } finally {
      privateKey.fill(0);
    }
  }

  withdraw(reason: string): void {
    const { authority, clock } = this.#parts;
    if (this.#held !== undefined && this.#held.svid.notAfter.getTime() > clock.now())
      authority.revoke(this.#held.svid.serial, reason);
    this.#held = undefined;
  }
}

/** The bundles of one kind: for every workload that has an identity. */
export class BundleFeed implements Feed {
  readonly renewAt = undefined;
  readonly endsAt = undefined;
  readonly #write: () => Uint8Array;
  #sent: Uint8Array | undefined;

  constructor(kind: "x509" | "jwt", { bundle }: FeedParts) {
    this.#write = () => (kind === "x509" ? x509Bundles(bundle()) : jwtBundles(bundle()));
  }

  next(): Uint8Array | undefined {
    const message = this.#write();
    if (this.#sent !== undefined && Buffer.compare(this.#sent, message) === 0) return undefined;
    this.#sent = message;
    return message;
  }

  withdraw(): void {}
}

function x509Bundles({ trustDomain, x509 }: TrustBundle): Uint8Array {
  return encodeX509BundlesResponse(new Map([[trustDomain.id.toString(), concat(x509)]]));
}

function jwtBundles(bundle: TrustBundle): Uint8Array {
  const { id } = bundle.trustDomain;
  return encodeJwtBundlesResponse(new Map([[id.toString(), Buffer.from(writeJwtBundle(bundle))]]));
}

function isSame(a: Assignment, b: Assignment): boolean {
  return (
    a.spiffeId.equals(b.spiffeId) &&
    a.lifetimeSeconds === b.lifetimeSeconds &&
    a.dnsNames.length === b.dnsNames.length &&
    a.dnsNames.every((name, index) => name === b.dnsNames[index])
  );
}
