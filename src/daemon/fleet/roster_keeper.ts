// Keeps what the fleet hears of this node's roots and the roster's entries true that this node answers for as an issuing node, and forgets what has ended. Looks when another program has written.

import type { KeyStore } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import type { Signer } from "../../federation/curve.ts";
import type { FleetState } from "../../federation/fleet_state.ts";
import type { Change } from "../../federation/outcome.ts";
import type { Store } from "../../store.ts";
import type { Log } from "../log.ts";
import { admitEnrolled, type FirstNode, foundFleet, refreshOwnEntry } from "./member.ts";
import { sayRoots } from "./root_voice.ts";

export interface RosterKeeperParts {
  readonly state: FleetState;
  readonly stateDir: string;
  readonly store: Store;
  readonly keys: KeyStore;
  readonly signer: Signer;
  readonly clock: Clock;
  readonly log: Log;
  /** This node as it is now. */
  self(): FirstNode;
  /** Told of what this node said, and of what has ended. */
  onChanges(changes: readonly Change[], areOwn: boolean): void;
}

const LOOK_EVERY_MS = 2000;
/** Of another program's writes only the number is read; what this one did itself is looked for now and then. */
const LOOK_ANYWAY_MS = 60_000;
const PRUNE_EVERY_MS = 3_600_000;

export class RosterKeeper {
  readonly #parts: RosterKeeperParts;
  /** Why the fleet was not told of the roots, when it was not. */
  #rootFault: string | undefined;

  constructor(parts: RosterKeeperParts) {
    this.#parts = parts;
  }

  /** Once, before all else. A node whose words do not stand any more starts all the same: it has to say why. */
  start(): void {
    const { state, keys, clock, log, self } = this.#parts;
    try {
      foundFleet(state, keys, clock, self());
      this.refresh();
    } catch (thrown) {
      if (!(thrown instanceof TypeError)) throw thrown;
      log.error("the roster could not be brought up to date", { error: describeError(thrown) });
    }
  }

  /** Where a root's key is: the roots. On an issuing node: its own entry, and those of nodes that were enrolled by file. Answers what it said. */
  refresh(): readonly Change[] {
    const { state, store, signer, clock, self } = this.#parts;
    const roots = this.#sayRoots();
    const node = self();
    return [
      ...roots,
      ...refreshOwnEntry(state, clock, node),
      ...admitEnrolled(state, clock, { signer, store, nodeName: node.nodeName }),
    ];
  }

  #sayRoots(): readonly Change[] {
    const { state, stateDir, store, keys, clock, log } = this.#parts;
    try {
      const said = sayRoots(state, { stateDir, store, keys, now: clock.now() });
      this.#rootFault = undefined;
      return said;
    } catch (thrown) {
      if (!(thrown instanceof RiprapError && thrown.code === "roots_too_much")) throw thrown;
      if (this.#rootFault !== thrown.message)
        log.error("the fleet was not told of the roots", { error: thrown.message });
      this.#rootFault = thrown.message;
      return [];
    }
  }

  /** This node has changed what it signs with: who verifies it has to know before the next look. Never throws. */
  look(): void {
    try {
      this.#parts.onChanges(this.refresh(), true);
    } catch (thrown) {
      const error = describeError(thrown);
      this.#parts.log.error("the roster does not name this node's authority yet", { error });
    }
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, store, onChanges } = this.#parts;
    // Counts the commits of others, never our own (sqlite.org/pragma.html#pragma_data_version).
    const version = store.prepare<{ data_version: number }>("PRAGMA data_version");
    let seen = version.get()?.data_version;
    let looked = clock.now();
    let pruned = looked;
    while (!signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      const written = version.get()?.data_version;
      const now = clock.now();
      if (written === seen && now - looked < LOOK_ANYWAY_MS) continue;
      [seen, looked] = [written, now];
      try {
        onChanges(this.refresh(), true);
        if (now - pruned < PRUNE_EVERY_MS) continue;
        pruned = now;
        onChanges(this.#parts.state.prune(now), false);
      } catch (thrown) {
        log.error("the roster could not be brought up to date", { error: describeError(thrown) });
      }
    }
  }
}
