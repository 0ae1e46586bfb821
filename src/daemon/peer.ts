// Answers the module's questions about peers: chain in, SPIFFE ID and key or a TLS alert out. Remembers which serials an answer rests on.

import type { BodyOf } from "../abi.ts";
import type { NodeAuthority } from "../ca.ts";
import type { Log } from "./log.ts";

const NO_KEY = new Uint8Array(65);
/** As many answers as the module itself caches (kernel/limits.h). */
const REMEMBERED_MAX = 4096;

interface Remembered {
  readonly spiffeId: string;
  /** From the leaf up: revoking one of them ends the answer. */
  readonly serials: readonly string[];
}

export interface PeerParts {
  readonly authority: Pick<NodeAuthority, "verifyPeerChain" | "isRevoked">;
  readonly log: Log;
}

export class PeerBook {
  readonly #parts: PeerParts;
  /** By the leaf's serial; the oldest goes first. */
  readonly #remembered = new Map<string, Remembered>();
  /** Counts of answers since start. */
  accepted = 0;
  refused = 0;

  constructor(parts: PeerParts) {
    this.#parts = parts;
  }

  /** VERIFIED for a VERIFY. Says what is wrong to the log, and no more than an alert to the peer. */
  verify({ ask, trustGeneration, chain, flow }: BodyOf<"verify">): BodyOf<"verified"> {
    const answer = this.#parts.authority.verifyPeerChain(chain);
    if (!answer.ok) {
      this.refused += 1;
      const { code, message, alert } = answer;
      this.#parts.log.warn("a peer was refused", { flow, code, reason: message, alert });
      return { ask, trustGeneration, notAfter: 0n, alert, spiffeId: "", publicKey: NO_KEY };
    }
    this.accepted += 1;
    const spiffeId = answer.spiffeId.toString();
    this.#remember({ spiffeId, serials: answer.serials });
    const notAfter = BigInt(Math.floor(answer.notAfter.getTime() / 1000));
    return { ask, trustGeneration, notAfter, alert: 0, spiffeId, publicKey: answer.publicKey };
  }

  /** An SVID of this node ended with its process: nobody needs to be cut off for it. */
  forget(serial: string): void {
    this.#remembered.delete(serial);
  }

  /** Forgets and returns the IDs of accepted peers of which some certificate has been revoked since. */
  takeRevoked(): readonly string[] {
    const revoked = [...this.#remembered].filter(([, { serials }]) =>
      serials.some((serial) => this.#parts.authority.isRevoked(serial)),
    );
    for (const [leaf] of revoked) this.#remembered.delete(leaf);
    return [...new Set(revoked.map(([, { spiffeId }]) => spiffeId))];
  }

  #remember(answer: Remembered): void {
    const [leaf] = answer.serials;
    if (leaf === undefined) return;
    this.#remembered.delete(leaf);
    this.#remembered.set(leaf, answer);
    const oldest = this.#remembered.size > REMEMBERED_MAX ? this.#remembered.keys().next().value : undefined;
    if (oldest !== undefined) this.#remembered.delete(oldest);
  }
}
