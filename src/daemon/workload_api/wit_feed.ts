// The WIT profile of the Workload API (incubating): a WIT-SVID with the key it is bound to, and the bundles that validate such tokens.

import type { WitAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { type TrustBundle, writeWitBundle } from "../../trust_bundle.ts";
import type { Assignment } from "../registry.ts";
import { renewalTime } from "../renewal.ts";
import type { Caller } from "./caller.ts";
import { type Feed, isEqual, requireDelivery } from "./feed.ts";
import type { Identified } from "./identity.ts";
import { encodeWitBundlesResponse, encodeWitSvidResponse } from "./message.ts";
import { CallRefusal } from "./refusal.ts";

export interface WitFeedParts {
  readonly wit: WitAuthority;
  readonly clock: Clock;
  readonly random: () => number;
  bundle(): TrustBundle;
  foreignBundles(): readonly TrustBundle[];
}

/** The workload's own, where its rule delivers a key: with a new one each time. */
export class WitFeed implements Feed {
  readonly #parts: WitFeedParts;
  readonly #wanted: string;
  #term:
    | { readonly assignment: Assignment; readonly keys: string; readonly renewAt: number; readonly endsAt: number }
    | undefined;

  /** `wanted`: the SPIFFE ID that was asked for; empty: whichever the caller has. */
  constructor(parts: WitFeedParts, wanted: string) {
    this.#parts = parts;
    this.#wanted = wanted;
  }

  get renewAt(): number | undefined {
    return this.#term?.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#term?.endsAt;
  }

  async next(_caller: Caller, { assignment, evidence }: Identified): Promise<Uint8Array | undefined> {
    if (this.#wanted !== "" && this.#wanted !== assignment.spiffeId.toString())
      throw new CallRefusal("permissionDenied", "no identity issued: the SPIFFE ID asked for is not the caller's");
    requireDelivery(assignment);
    const { clock, random, wit } = this.#parts;
    const issuedAt = clock.now();
    // A key that has left the bundle has taken what it signed with it.
    const keys = wit.keys.map(({ keyId }) => keyId).join();
    const term = this.#term;
    const isSame = term?.assignment.spiffeId.equals(assignment.spiffeId) === true && term.keys === keys;
    if (term !== undefined && isSame && issuedAt < term.renewAt) return undefined;
    const { spiffeId, lifetimeSeconds, rule, because } = assignment;
    const { pid, exe, uid } = evidence;
    const context = { by: "workload-api", pid, exe, uid, rule, because };
    const { token, privateKey, expiresAt } = await wit.issue({ spiffeId, lifetimeSeconds, context });
    const endsAt = expiresAt.getTime();
    this.#term = { assignment, keys, endsAt, renewAt: renewalTime({ issuedAt, notAfter: endsAt }, random()) };
    return encodeWitSvidResponse([{ spiffeId: spiffeId.toString(), token, privateKey }]);
  }
}

export class WitBundleFeed implements Feed {
  readonly renewAt = undefined;
  readonly endsAt = undefined;
  readonly #parts: WitFeedParts;
  #sent: Uint8Array | undefined;

  constructor(parts: WitFeedParts) {
    this.#parts = parts;
  }

  async next(): Promise<Uint8Array | undefined> {
    const { bundle, foreignBundles } = this.#parts;
    const bundles = [bundle(), ...foreignBundles()].map(
      (one) => [one.trustDomain.id.toString(), writeWitBundle(one)] as const,
    );
    const message = encodeWitBundlesResponse(new Map(bundles));
    if (isEqual(this.#sent, message)) return undefined;
    this.#sent = message;
    return message;
  }
}
