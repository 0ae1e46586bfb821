// Takes this node's authorities through their life while the daemon runs, and tells whoever must know when what others trust has changed.

import type { Authorities, AuthorityKind, AuthorityList, NodeAuthority, StepDone, StepOptions } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import type { TrustBundle } from "../trust_bundle.ts";
import type { AuthorityPort } from "./control/authority.ts";
import type { Log } from "./log.ts";
import { asStateFault } from "./state_fault.ts";

/** Lives are counted in days: a minute is soon enough for what time asks for. */
const LOOK_EVERY_MS = 60_000;

export interface AuthorityKeeperParts {
  readonly authorities: Authorities;
  readonly authority: Pick<NodeAuthority, "epoch">;
  readonly clock: Clock;
  readonly log: Log;
  /** What this node publishes now; the same value as long as nothing has changed. */
  bundle(): TrustBundle;
  /** What this node signs with may be another. */
  signsAnew?(): void;
  /** Makes every X509-SVID that this node has given out anew; resolves when all are. */
  reissue(): Promise<void>;
}

export type BundleListener = (bundle: TrustBundle) => void;

export class AuthorityKeeper implements AuthorityPort {
  readonly #parts: AuthorityKeeperParts;
  readonly #listeners = new Set<BundleListener>();
  #sequence: bigint | undefined;
  #epoch: number;
  #generation: number;

  constructor(parts: AuthorityKeeperParts) {
    this.#parts = parts;
    this.#sequence = parts.bundle().sequence;
    this.#epoch = parts.authority.epoch;
    this.#generation = parts.authorities.generation;
  }

  /** Told of each bundle that this node publishes from now on. Answers how to stop. */
  onBundleChange(listener: BundleListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  list(): AuthorityList {
    return this.#parts.authorities.list();
  }

  events(limit: number) {
    return this.#parts.authorities.events(limit);
  }

  prepare(kind: AuthorityKind, options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.prepare(kind, options));
  }

  activate(id: string, options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.activate(id, options));
  }

  taint(id: string, options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.taint(id, options));
  }

  revoke(id: string, options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.revoke(id, options));
  }

  renewIntermediate(options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.renewIntermediate(options));
  }

  request(role: "intermediate" | "issuing"): Promise<string> {
    return this.#parts.authorities.request(role);
  }

  install(pem: string, options: StepOptions): Promise<StepDone> {
    return this.#step(() => this.#parts.authorities.install(pem, options));
  }

  /** Somebody else (the command, beside the daemon) may have changed something. Resolves when what follows from it is done. */
  async look(): Promise<void> {
    const { authorities, authority, log } = this.#parts;
    if (authorities.generation === this.#generation) return;
    this.#generation = authorities.generation;
    this.#parts.signsAnew?.();
    const bundle = this.#parts.bundle();
    if (bundle.sequence !== this.#sequence) {
      this.#sequence = bundle.sequence;
      log.info("the trust bundle has changed", { sequence: bundle.sequence });
      for (const tell of this.#listeners) tell(bundle);
    }
    if (authority.epoch === this.#epoch) return;
    this.#epoch = authority.epoch;
    if (!(await this.#finishTaint())) await this.#parts.reissue();
    await this.look();
  }

  /** Also after a start: the SVIDs of before may still be under it. False when no root is tainted. */
  async #finishTaint(): Promise<boolean> {
    const { authorities, log, reissue } = this.#parts;
    const spent = authorities.spentRoots();
    if (spent.length === 0) return false;
    await reissue();
    for (const id of spent) {
      await authorities.revoke(id, { reason: "it was tainted, and all under it is made anew" });
      log.warn("a tainted root is trusted no longer", { authority: id });
    }
    return true;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { authorities, clock, log } = this.#parts;
    while (!signal.aborted) {
      try {
        await authorities.advance();
        await this.#finishTaint();
        await this.look();
      } catch (thrown) {
        log.error("an authority could not go on", { error: describeError(thrown) });
      }
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async #step(work: () => Promise<StepDone>): Promise<StepDone> {
    const done = await work().catch((thrown: unknown) => {
      throw asStateFault(thrown, "change an authority");
    });
    const { authority, notes } = done;
    this.#parts.log.warn("an authority changed by command", {
      ...{ step: done.done, authority: authority.id, kind: authority.kind, phase: authority.phase },
      ...(notes.length === 0 ? {} : { note: notes.join(" ") }),
    });
    await this.look();
    return done;
  }
}
