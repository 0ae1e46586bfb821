// Tells the module when what this node trusts has changed: its cached answers about peers are void then.

import { createHash } from "node:crypto";
import type { NodeAuthority } from "../ca.ts";
import { describeError } from "../error.ts";
import type { BundleBook } from "./bundle.ts";
import type { Generation } from "./control/port.ts";
import type { ModuleLink } from "./link.ts";
import type { Log } from "./log.ts";
import type { DaemonState } from "./state.ts";

export class TrustKeeper {
  readonly #parts: {
    readonly authority: Pick<NodeAuthority, "bundle">;
    readonly bundles: Pick<BundleBook, "bundles">;
    readonly state: DaemonState;
    readonly log: Log;
  };
  #desired: bigint;
  #applied = 0n;
  #error: string | undefined;

  constructor(parts: {
    readonly authority: Pick<NodeAuthority, "bundle">;
    readonly bundles: Pick<BundleBook, "bundles">;
    readonly state: DaemonState;
    readonly log: Log;
  }) {
    this.#parts = parts;
    const digest = this.#digest();
    const { value, note } = parts.state.current("trust");
    this.#desired = value > 0n && note === digest ? value : parts.state.next("trust", 0n, digest);
  }

  get view(): Generation {
    const error = this.#error === undefined ? {} : { error: this.#error };
    return { desired: Number(this.#desired), applied: Number(this.#applied), ...error };
  }

  /** What is trusted is another than before, though the roots are the same. */
  advance(): void {
    this.#desired = this.#parts.state.next("trust", this.#desired, this.#digest());
  }

  /** The device was opened, or the generation advanced: the module hears the generation unless it has it. Never rejects. */
  async apply(link: ModuleLink): Promise<void> {
    const { state, log } = this.#parts;
    const theirs = link.hello.trustGeneration;
    // A number ahead of ours is of another state directory: what it stands for is not what we trust.
    if (theirs > this.#desired) this.#desired = state.next("trust", theirs, this.#digest());
    try {
      if (theirs !== this.#desired) await link.session.ask("trust", { generation: this.#desired });
      this.#applied = this.#desired;
      this.#error = undefined;
    } catch (thrown) {
      this.#error = describeError(thrown);
      log.error("the module did not take the trust generation", { generation: this.#desired, error: this.#error });
    }
  }

  /** There is no module: what is desired is what the daemon itself uses. */
  standAlone(): void {
    this.#applied = this.#desired;
    this.#error = undefined;
  }

  #digest(): string {
    const hash = createHash("sha256");
    for (const root of this.#parts.authority.bundle) hash.update(root);
    for (const [name, { x509 }] of this.#parts.bundles.bundles()) {
      // With their number, so that a root cannot move from one domain to another unseen.
      hash.update(`${name} ${x509.length}\n`);
      for (const root of x509) hash.update(root);
    }
    return hash.digest("hex");
  }
}
