// Makes what the module holds agree with the rules: after the device was opened, and after every new set of rules.

import { type BodyOf, CUT_BY, PROCESS_FLAG, REASON } from "../abi.ts";
import { describeError } from "../error.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { Admission } from "./admission.ts";
import { listAdoptable, readFilters } from "./adoption.ts";
import { evidenceOfFacts } from "./attestation/evidence.ts";
import type { Issuance } from "./issuance.ts";
import type { ModuleLink } from "./link.ts";
import type { Log } from "./log.ts";
import type { Registry } from "./registry.ts";
import type { RuleBook } from "./rule_book.ts";
import type { DaemonState } from "./state.ts";

export interface ReconcileParts {
  readonly registry: Registry;
  readonly book: RuleBook;
  readonly admission: Admission;
  readonly issuance: Issuance;
  readonly state: DaemonState;
  readonly log: Log;
  readonly lifetimeSeconds: number;
}

export type Replay = readonly BodyOf<"process">[];

export class Reconciler {
  readonly #parts: ReconcileParts;

  constructor(parts: ReconcileParts) {
    this.#parts = parts;
  }

  /**
   * Takes in what the module replayed, before anything else is numbered: processes that hold an identity keep it and
   * its number; those of an earlier load of the module, or that ended while nobody looked, have theirs revoked.
   */
  restore(replay: Replay, link: ModuleLink): void {
    const { registry, issuance, state } = this.#parts;
    registry.clear();
    issuance.deadlines.clear();
    for (const facts of replay) this.#restoreOne(facts, link);
    const live = new Set(replay.map(({ instance }) => instance));
    const dead = state.releaseDead(({ boot, instance }) => boot === link.boot && live.has(instance));
    issuance.revokeAll(dead, "the process ended while no daemon was there to see it");
  }

  /** Every known process is judged by the rules in force, and those that a rule may select now are found. */
  async reconcile(link: ModuleLink): Promise<void> {
    const { registry, admission, book, log } = this.#parts;
    if (book.resources === undefined) return;
    for (const workload of [...registry.workloads()]) {
      try {
        if (registry.has(workload)) await admission.decide(workload, link);
      } catch (thrown) {
        log.error("a process could not be judged", { pid: workload.evidence.pid, error: describeError(thrown) });
      }
    }
    await this.#adopt(link);
  }

  /** Ends the flows that the table in force would no longer allow. */
  async recheck(link: ModuleLink): Promise<void> {
    const { log } = this.#parts;
    const ack = await link.session.ask("cut", { value: 0n, by: CUT_BY.recheck, reason: REASON.rule, id: "" });
    if (ack.generation > 0n) log.info("flows were cut that the rules no longer allow", { flows: ack.generation });
  }

  #restoreOne(facts: BodyOf<"process">, link: ModuleLink): void {
    const { registry, issuance, state, lifetimeSeconds } = this.#parts;
    const workload = registry.add(facts.instance, evidenceOfFacts(facts));
    if ((facts.flags & PROCESS_FLAG.hasIdentity) === 0) return;
    const spiffeId = SpiffeId.tryParse(facts.spiffeId);
    if (spiffeId === undefined || !registry.restore(facts.subject, spiffeId)) return;
    const assignment = {
      spiffeId,
      rule: "an earlier daemon's rules",
      because: [],
      lifetimeSeconds,
      dnsNames: [],
      delivery: "kernel",
    } as const;
    const held = state.heldBy({ boot: link.boot, instance: facts.instance }).at(-1);
    if (held !== undefined && this.#isInstalled(held, facts) && !issuance.isRevoked(held.serial)) {
      issuance.keep(workload, assignment, held);
      return;
    }
    workload.state = { phase: "assigned", assignment };
    issuance.renew(workload, link);
  }

  /** Is the newest SVID that we signed for it the one that the module has, and still good? */
  #isInstalled(held: { readonly spiffeId: string; readonly notAfter: number }, facts: BodyOf<"process">): boolean {
    return held.spiffeId === facts.spiffeId && BigInt(Math.floor(held.notAfter / 1000)) === facts.notAfter;
  }

  async #adopt(link: ModuleLink): Promise<void> {
    const { registry, book, log } = this.#parts;
    const { table } = book;
    if (table === undefined) return;
    const found = await listAdoptable({ filters: readFilters(table), isKnown: (pid) => registry.hasPid(pid) });
    for (const { pid, startTimeNs, name } of found) {
      // The module may have reported it by itself while we looked at others.
      if (registry.hasPid(pid)) continue;
      link.session.ask("adopt", { pid, startTimeNs }).catch((thrown: unknown) => {
        log.debug("a process was not adopted", { pid, name, error: describeError(thrown) });
      });
    }
    if (found.length > 0) log.info("processes that run already are looked at", { processes: found.length });
  }
}
