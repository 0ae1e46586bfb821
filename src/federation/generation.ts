// The generation of the fleet's resources: a number that grows and a digest that is equal where the resources are. Knows statements, no node.
import { hash } from "node:crypto";
import type { FleetGeneration } from "../fleet.ts";
import type { Statement } from "./statement.ts";

const NUMBER_MAX = BigInt(Number.MAX_SAFE_INTEGER);

type Counted = Pick<Statement, "kind" | "key" | "hash" | "revision">;

export class Generation {
  readonly #hashes = new Map<string, string>();
  /** Exact, because some thousand of the greatest revisions are more than a number holds. */
  #number = 0n;
  #value: FleetGeneration | undefined;

  add({ kind, key, hash, revision }: Counted): void {
    if (kind !== "resource") return;
    this.#hashes.set(key, hash);
    this.#number += BigInt(revision);
    this.#value = undefined;
  }

  remove({ kind, key, revision }: Omit<Counted, "hash">): void {
    if (kind !== "resource" || !this.#hashes.delete(key)) return;
    this.#number -= BigInt(revision);
    this.#value = undefined;
  }

  value(): FleetGeneration {
    if (this.#value === undefined) {
      const digest = hash("sha256", [...this.#hashes.values()].sort().join(""), "hex").slice(0, 16);
      this.#value = { number: Number(this.#number < NUMBER_MAX ? this.#number : NUMBER_MAX), digest };
    }
    return this.#value;
  }
}
