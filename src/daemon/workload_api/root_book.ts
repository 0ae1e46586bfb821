// The roots that go beside every X509-SVID, as its message has them: laid out once for each change of the bundles.

import { hash } from "node:crypto";
import type { TrustBundle } from "../../trust_bundle.ts";
import { type BundleMap, type EncodedRoots, encodeRoots, encodeX509BundlesResponse } from "./message.ts";
import { concat } from "./protobuf.ts";

export interface BundleSource {
  /** Of the own trust domain. */
  bundle(): TrustBundle;
  /** Those held of other trust domains, never merged with it or with one another. */
  foreignBundles(): readonly TrustBundle[];
}

export interface Roots extends EncodedRoots {
  /** The same for the same roots. */
  readonly digest: string;
}

export class RootBook {
  readonly #source: BundleSource;
  #last: { readonly bundles: readonly TrustBundle[]; readonly roots: Roots } | undefined;

  constructor(source: BundleSource) {
    this.#source = source;
  }

  current(): Roots {
    const bundles = [this.#source.bundle(), ...this.#source.foreignBundles()];
    // A bundle is a value: as long as it is the same one, so is all that it holds.
    const isSame =
      bundles.length === this.#last?.bundles.length && bundles.every((b, i) => b === this.#last?.bundles[i]);
    if (this.#last === undefined || !isSame) this.#last = { bundles, roots: rootsOf(bundles) };
    return this.#last.roots;
  }
}

/** SPIFFE ID of each trust domain with its roots. */
export function x509Bundles(bundles: readonly TrustBundle[]): BundleMap {
  return new Map(bundles.map(({ trustDomain, x509 }) => [trustDomain.id.toString(), concat(x509)]));
}

function rootsOf([own, ...others]: readonly TrustBundle[]): Roots {
  const { x509 } = own as TrustBundle;
  const foreign = x509Bundles(others);
  const digest = hash("sha256", concat([...x509, encodeX509BundlesResponse(foreign)]), "base64url");
  return { ...encodeRoots(x509, foreign), digest };
}
