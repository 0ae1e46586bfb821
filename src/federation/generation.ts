// The generation of the fleet's resources: a number that grows and a digest that is equal where the resources are. Knows statements, no node.
import { hash } from "node:crypto";
import type { FleetGeneration } from "../fleet.ts";
import type { Statement } from "./statement.ts";

export class Generation {
  readonly #hashes = new Map<string, string>();
  #number = 0;
  #value: FleetGeneration | undefined;

  add({ kind, key, hash, revision }: Statement): void {
    if (kind !== "resource") return;
    this.#hashes.set(key, hash);
    this.#number += revision;
    this.#value = undefined;
  }

  remove({ kind, key, revision }: Statement): void {
    if (kind !== "resource" || !this.#hashes.delete(key)) return;
    this.#number -= revision;
    this.#value = undefined;
  }

  value(): FleetGeneration {
    if (this.#value === undefined) {
      const digest = hash("sha256", [...this.#hashes.values()].sort().join(""), "hex").slice(0, 16);
      this.#value = { number: this.#number, digest };
    }
    return this.#value;
  }
}
