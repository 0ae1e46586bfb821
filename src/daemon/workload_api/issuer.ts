// Signs X509-SVIDs with keys of their own for the Workload API: those that are asked for together in one commit, each with its entry in the ledger.

import { type IssuedSvid, issueWithNewKeys, type NodeAuthority } from "../../ca.ts";
import type { Store } from "../../store.ts";
import type { Caller } from "./caller.ts";
import type { Identified } from "./identity.ts";
import type { Ledger } from "./ledger.ts";

/** Some milliseconds of work; calls are answered in between. */
const BATCH_MAX = 64;

export interface IssuerParts {
  readonly authority: NodeAuthority;
  readonly store: Store;
  readonly ledger: Ledger;
}

/** To be used at once: its private key, PKCS#8 DER, is wiped after that. */
export type KeyedSvid = IssuedSvid & {
  readonly privateKey: Uint8Array;
  /** Of the authority when it was signed. */
  readonly epoch: number;
};

interface Order {
  readonly caller: Caller;
  readonly identified: Identified;
  /** Never throws. */
  done(svid: KeyedSvid): void;
  failed(thrown: unknown): void;
}

export class SvidIssuer {
  issued = 0;
  readonly #parts: IssuerParts;
  readonly #orders: Order[] = [];

  constructor(parts: IssuerParts) {
    this.#parts = parts;
  }

  /** What `use` makes of it. Rejects with what NodeAuthority.issueX509Svid throws, or with what `use` does. */
  issue<T>(caller: Caller, identified: Identified, use: (svid: KeyedSvid) => T): Promise<T> {
    return new Promise((resolve, failed) => {
      const done = (svid: KeyedSvid) => {
        try {
          resolve(use(svid));
        } catch (thrown) {
          failed(thrown);
        } finally {
          svid.privateKey.fill(0);
        }
      };
      this.#orders.push({ caller, identified, done, failed });
      if (this.#orders.length === 1) setImmediate(() => this.#work());
    });
  }

  #work(): void {
    const orders = this.#orders.splice(0, BATCH_MAX);
    if (this.#orders.length > 0) setImmediate(() => this.#work());
    try {
      this.#sign(orders);
    } catch (thrown) {
      if (orders.length === 1) orders[0]?.failed(thrown);
      // One that may not be issued must not take the others with it.
      else for (const order of orders) this.#signAlone(order);
    }
  }

  #signAlone(order: Order): void {
    try {
      this.#sign([order]);
    } catch (thrown) {
      order.failed(thrown);
    }
  }

  #sign(orders: readonly Order[]): void {
    const { authority, store, ledger } = this.#parts;
    const svids = store.transaction(() => {
      const { epoch } = authority;
      const signed = issueWithNewKeys(authority, orders.map(requestOf));
      for (const [index, { caller, identified }] of orders.entries())
        ledger.write(caller, deliveredOf(identified, signed[index] as KeyedSvid));
      return signed.map((svid) => Object.assign(svid, { epoch }));
    });
    for (const [index, order] of orders.entries()) {
      const svid = svids[index] as KeyedSvid;
      ledger.add(order.caller, deliveredOf(order.identified, svid));
      this.issued += 1;
      order.done(svid);
    }
  }
}

function requestOf({ identified: { assignment, evidence } }: Order) {
  const { spiffeId, lifetimeSeconds, dnsNames, rule, because } = assignment;
  const { pid, exe, uid } = evidence;
  const context = { by: "workload-api", pid, exe, uid, rule, because };
  return { spiffeId, lifetimeSeconds, dnsNames, context };
}

function deliveredOf({ assignment }: Identified, { serial, notAfter }: KeyedSvid) {
  return { serial, spiffeId: assignment.spiffeId, notAfter: notAfter.getTime() };
}
