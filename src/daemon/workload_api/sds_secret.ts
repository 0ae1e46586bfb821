// Which secrets Envoy gets by which names: the workload's SVID, and the roots that it may trust. The names are those of SPIRE, so that its users change nothing.

import { hash } from "node:crypto";
import type { TrustBundle } from "../../trust_bundle.ts";
import type { Caller } from "./caller.ts";
import { type FeedParts, requireDelivery, SvidTerm } from "./feed.ts";
import type { Identified } from "./identity.ts";
import { pemOfCertificates, pemOfKey } from "./pem.ts";
import {
  encodeCertificateSecret,
  encodeRootsSecret,
  encodeValidatorSecret,
  type SecretResource,
  type TrustedRoots,
} from "./sds_message.ts";

/** The workload's SVID, whatever its ID. */
export const DEFAULT_SVID = "default";
/** The roots of the own trust domain, and those of every one that is held. */
export const OWN_ROOTS = "ROOTCA";
export const ALL_ROOTS = "ALL";

/** What a stream wants: names, or everything. */
export interface Wanted {
  /** Empty: everything that there is. */
  readonly names: ReadonlySet<string>;
  /** Envoy's SPIFFE validator instead of roots in one heap. */
  readonly hasValidator: boolean;
}

/** The secrets of one stream of one workload, and its SVID through its renewals. */
export class SecretSource {
  readonly #parts: FeedParts;
  readonly #term: SvidTerm;

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

  /** Of these names, what is roots; never waits. */
  roots({ names, hasValidator }: Wanted): readonly SecretResource[] {
    const own = this.#parts.bundle();
    const held = [own, ...this.#parts.foreignBundles()].map(trustedRoots);
    const wants = (name: string) => names.size === 0 || names.has(name);
    const secrets = held.flatMap(({ id, roots }) => {
      const aliases = [id, ...(id === own.trustDomain.id.toString() && names.has(OWN_ROOTS) ? [OWN_ROOTS] : [])];
      return aliases.filter(wants).map((name) => ({
        name,
        secret: hasValidator ? encodeValidatorSecret(name, [roots]) : encodeRootsSecret(name, roots),
      }));
    });
    if (names.has(ALL_ROOTS)) {
      // One heap would let each domain speak for every other one: with more than one only the validator will do.
      const all = held.map(({ roots }) => roots);
      secrets.push({ name: ALL_ROOTS, secret: encodeValidatorSecret(ALL_ROOTS, all) });
    }
    return secrets.map(({ name, secret }) => ({ name, secret, version: hash("sha256", secret, "hex").slice(0, 16) }));
  }

  /** Under which of these names the workload's SVID is wanted. CallRefusal `permissionDenied` when it is asked for by name and not delivered. */
  svidNames({ names }: Wanted, { assignment }: Identified): readonly string[] {
    const own = assignment.spiffeId.toString();
    if (names.size === 0) return assignment.delivery === "workload-api" ? [own] : [];
    const asked = [DEFAULT_SVID, own].filter((name) => names.has(name));
    if (asked.length > 0) requireDelivery(assignment);
    return asked;
  }

  /** Is the SVID that was given last still good? */
  isGood(identified: Identified): boolean {
    return this.#term.isGood(identified);
  }

  /** A new SVID under each of these names. */
  svids(
    names: readonly string[],
    { caller, identified }: { readonly caller: Caller; readonly identified: Identified },
  ): Promise<readonly SecretResource[]> {
    return this.#term.issue(caller, identified, ({ serial, chain, privateKey }) => {
      const pem = { chain: pemOfCertificates(chain), privateKey: pemOfKey(privateKey) };
      try {
        return names.map((name) => ({ name, version: serial, secret: encodeCertificateSecret(name, pem) }));
      } finally {
        pem.privateKey.fill(0);
      }
    });
  }
}

function trustedRoots({ trustDomain, x509 }: TrustBundle): { readonly id: string; readonly roots: TrustedRoots } {
  return { id: trustDomain.id.toString(), roots: { trustDomain: trustDomain.name, pem: pemOfCertificates(x509) } };
}
