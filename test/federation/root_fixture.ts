// Roots with certificates for tests, and what each of them says of the roots of the trust domain.
import { buildCaCertificate } from "../../src/ca/x509.ts";
import { parseBody, type RootEntry } from "../../src/federation/body.ts";
import type { Signer } from "../../src/federation/curve.ts";
import { type Statement, signStatement } from "../../src/federation/statement.ts";
import { type KnownRoot, nextRecord } from "../../src/federation/succession.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { DOMAIN, NOW } from "./fleet_fixture.ts";

export type RootState = RootEntry["state"];
/** A root, what is said of it, and what of its words stands. */
export type Told = readonly [root: Signer, state: RootState, keep?: readonly string[]];

/** Certificates of roots by name, and the records that they sign. */
export class RootFixture {
  readonly #certificates = new Map<Signer, Uint8Array>();

  private constructor() {}

  static async make(roots: Readonly<Record<string, Signer>>): Promise<RootFixture> {
    const made = new RootFixture();
    for (const [name, root] of Object.entries(roots))
      made.#certificates.set(root, await makeRootCertificate(name, root));
    return made;
  }

  certificateOf(root: Signer): Uint8Array {
    const found = this.#certificates.get(root);
    if (found === undefined) throw new TypeError("this root has no certificate");
    return found;
  }

  known([root, state, keep = []]: Told): KnownRoot {
    return { certificate: this.certificateOf(root), state, keep };
  }

  /** The record after `held`, by `author`. */
  record(held: Statement | undefined, author: Signer, all: readonly Told[]): Statement {
    const entries = held === undefined ? undefined : parseBody("roots", held).roots;
    return this.recordOf(entries, author, all, (held?.revision ?? 0) + 1);
  }

  /** Throws TypeError when it says nothing new. */
  recordOf(held: readonly RootEntry[] | undefined, author: Signer, all: readonly Told[], revision: number): Statement {
    const body = nextRecord(
      held,
      all.map((told) => this.known(told)),
      { trustDomain: DOMAIN, author },
    );
    if (body === undefined) throw new TypeError("it says nothing new");
    return signRecord(author, body, revision);
  }
}

export function signRecord(author: Signer, body: Uint8Array, revision: number): Statement {
  return signStatement({ trustDomain: DOMAIN, kind: "bundle", name: "domain", revision, time: NOW, body }, author);
}

/** A root's certificate, DER, good for an hour from NOW. */
export function makeRootCertificate(commonName: string, key: Signer, domain = DOMAIN): Promise<Uint8Array> {
  const trustDomain = TrustDomain.parse(domain);
  const issuer = { commonName, key: { ...key, custody: "file" as const, close: () => undefined } };
  const dates = { notBefore: NOW, notAfter: NOW + 3_600_000 };
  return buildCaCertificate({
    ...{ trustDomain, commonName, serial: "01", point: key.publicKey, ...dates, constrain: false, issuer },
  });
}
