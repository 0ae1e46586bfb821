// Has the fleet's resources put in force, one time after the other, and says which generation is. Many changes while one is applied are one more time.

import type { FleetGeneration } from "../../fleet.ts";

export interface ApplierParts {
  generation(): FleetGeneration;
  /** Resolves when the resources are in force as they stand, with a sentence when they cannot be. */
  apply(): Promise<string | undefined>;
  onApplied(generation: FleetGeneration, failure: string | undefined): void;
}

export class Applier {
  readonly #parts: ApplierParts;
  #applying: Promise<void> | undefined;
  #isWanted = false;

  constructor(parts: ApplierParts) {
    this.#parts = parts;
  }

  /** Resolves when what stands now is in force, or cannot be. Rejects with what `apply` throws. */
  async apply(): Promise<void> {
    if (this.#applying !== undefined) {
      this.#isWanted = true;
      return this.#applying;
    }
    this.#applying = this.#applyInTurn();
    await this.#applying;
  }

  async #applyInTurn(): Promise<void> {
    const { generation, apply, onApplied } = this.#parts;
    try {
      do {
        this.#isWanted = false;
        const wanted = generation();
        onApplied(wanted, await apply());
      } while (this.#isWanted);
    } finally {
      this.#applying = undefined;
    }
  }
}
