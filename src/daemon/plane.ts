// What the daemon does with the module: each frame to the room that it belongs to. Contains calls, not work.

import { type BodyOf, CUT_BY, FRAME_FLAG, type Frame, REASON } from "../abi.ts";
import { describeError } from "../error.ts";
import type { Admission } from "./admission.ts";
import type { Condition } from "./condition.ts";
import { ackName } from "./device.ts";
import type { FlowStore } from "./flow.ts";
import type { Issuance } from "./issuance.ts";
import { errnoName } from "./libc.ts";
import type { LinkHandler, ModuleLink } from "./link.ts";
import type { Log } from "./log.ts";
import type { ModuleCounters } from "./module_counter.ts";
import type { PeerBook } from "./peer.ts";
import type { Reconciler } from "./reconcile.ts";
import type { Registry } from "./registry.ts";
import type { RuleBook } from "./rule_book.ts";
import type { TrustKeeper } from "./trust.ts";

export interface PlaneParts {
  readonly registry: Registry;
  readonly book: RuleBook;
  readonly trust: TrustKeeper;
  readonly admission: Admission;
  readonly issuance: Issuance;
  readonly reconciler: Reconciler;
  readonly flows: FlowStore;
  readonly counters: ModuleCounters;
  readonly peers: PeerBook;
  readonly changed: Condition;
  readonly log: Log;
  /** Reads the rules directory again: what it says may not have come through before. */
  reloadRules(): Promise<void>;
}

/** Of the questions that a session keeps open. */
const CUTS_AT_ONCE = 1024;

/** Work that a frame began and that ends later; a failure of it is logged and harms nothing else. */
type Later = Promise<void>;

export class EnforcementPlane implements LinkHandler {
  readonly #parts: PlaneParts;
  #link: ModuleLink | undefined;
  #lastBoot: bigint | undefined;

  constructor(parts: PlaneParts) {
    this.#parts = parts;
  }

  /** Undefined: the identity plane alone. */
  get link(): ModuleLink | undefined {
    return this.#link;
  }

  opened(link: ModuleLink, replay: readonly BodyOf<"process">[]): void {
    const { reconciler, book, flows, log } = this.#parts;
    if (this.#lastBoot !== undefined && this.#lastBoot !== link.boot) log.warn("the module was loaded anew", {});
    if (this.#lastBoot !== link.boot) flows.forgetLive();
    this.#lastBoot = link.boot;
    this.#link = link;
    reconciler.restore(replay, link);
    book.attach(link);
    this.#later("the module was not brought up to date", this.#synchronise(link));
  }

  /** A new set of rules is in force. */
  rulesChanged(): void {
    this.#parts.changed.notify();
    const link = this.#link;
    if (link !== undefined) this.#later("processes were not judged by the new rules", this.#judgeAll(link));
  }

  /** Something was revoked, or a bundle changed: cached answers about peers are void, and peers that would be refused now are cut off. */
  trustChanged(): void {
    this.#later("the module was not told of changed trust", this.#renewTrust());
  }

  /** Makes those of the SVIDs that the module holds anew which `which` picks by their serials. */
  renewSvids(which: (serial: string) => boolean): void {
    const link = this.#link;
    if (link === undefined) return;
    for (const workload of [...this.#parts.registry.workloads()])
      if (workload.state.phase === "ready" && which(workload.state.svid.serial)) this.renewalDue(workload.instance);
  }

  /** A renewal or a retry is due. */
  renewalDue(instance: bigint): void {
    const link = this.#link;
    if (link === undefined) return;
    try {
      this.#parts.admission.renew(instance, link);
    } catch (thrown) {
      this.#parts.log.error("a renewal could not be begun", { instance, error: describeError(thrown) });
    }
  }

  /** A failure of one frame harms no other: it is logged, and the module's own timeout answers who waits. */
  frame(frame: Frame, link: ModuleLink): void {
    try {
      this.#dispatch(frame, link);
    } catch (thrown) {
      this.#parts.log.error("a frame could not be handled", { type: frame.type, error: describeError(thrown) });
    }
  }

  #dispatch(frame: Frame, link: ModuleLink): void {
    const { admission, counters, flows, log, peers } = this.#parts;
    switch (frame.type) {
      case "process":
        // Answers to QUERY are for people; the replay was taken in when the device was opened.
        if (frame.flags === 0) this.#later("a process could not be admitted", admission.admit(frame.body, link));
        break;
      case "processExit":
        admission.end(frame.body.instance, link);
        break;
      case "key":
        admission.key(frame.body, link);
        break;
      case "verify":
        link.session.send("verified", peers.verify(frame.body));
        break;
      case "flow":
        this.#flow(frame.body, frame.flags);
        break;
      case "lost":
        flows.lost += Number(frame.body.flowEvents);
        log.warn("flow events were lost: the module's queue was full", { events: frame.body.flowEvents });
        break;
      case "queryDone":
        counters.take(frame.body);
        break;
      case "ack":
        this.#ack(frame.body);
        break;
      default:
        log.warn("the module sent a frame of the daemon's own kind", { type: frame.type });
    }
  }

  closed(): void {
    this.#link = undefined;
    this.#parts.book.attach(undefined);
    this.#parts.trust.standAlone();
    this.#parts.counters.forget();
    this.#parts.changed.notify();
  }

  // Who asked has the answer; this is for frames that nobody waits for. Most errors of ASSIGN are processes that ended meanwhile.
  #ack({ what, error }: BodyOf<"ack">): void {
    if (error !== 0)
      this.#parts.log.debug("the module refused a frame", { what: ackName(what), error: errnoName(-error) });
  }

  async #synchronise(link: ModuleLink): Promise<void> {
    const { trust, book, counters, peers, changed } = this.#parts;
    // Revoked while no daemon was there to tell the module.
    if (peers.listEnded().length > 0) trust.advance();
    await trust.apply(link);
    this.#later("revoked peers were not cut off", this.#cutRevoked(link, counters.showFlows(link)));
    changed.notify();
    if (book.resources === undefined) return;
    await book.commit();
    changed.notify();
    await this.#judgeAll(link);
    await this.#parts.reloadRules();
  }

  /** What an earlier daemon accepted. */
  async #cutRevoked(link: ModuleLink, shown: Promise<void>): Promise<void> {
    await shown;
    const { flows, peers } = this.#parts;
    if (this.#link === link) await this.#cutOff(link, new Set(flows.livePeers().filter((id) => peers.isStranger(id))));
  }

  async #renewTrust(): Promise<void> {
    const { trust, peers, flows, changed } = this.#parts;
    trust.advance();
    const link = this.#link;
    // Whoever lives on in the module is cut off when it is there again.
    if (link === undefined) return trust.standAlone();
    // Frames are taken in order: who is cut finds no cached answer any more.
    const applied = trust.apply(link);
    // It may rest on what has just been revoked, and nobody remembers: it can connect again where it does not.
    const unknown = flows.livePeers().filter((id) => peers.isStranger(id) || !peers.remembers(id));
    await Promise.all([applied, this.#cutOff(link, new Set(unknown))]);
    changed.notify();
  }

  /** Peers that would be refused now, and those who are named. */
  async #cutOff(link: ModuleLink, others: ReadonlySet<string>): Promise<void> {
    const { peers, log } = this.#parts;
    const ended = peers.listEnded();
    const ids = [...new Set([...ended.map(({ spiffeId }) => spiffeId), ...others])];
    for (let at = 0; at < ids.length; at += CUTS_AT_ONCE) {
      const portion = ids.slice(at, at + CUTS_AT_ONCE).map((id) => {
        log.info("a peer was cut off that is trusted no longer", { spiffeId: id, statement: peers.causeOf(id) });
        return link.session.ask("cut", { value: 0n, by: CUT_BY.peerId, reason: REASON.revoked, id });
      });
      await Promise.all(portion);
    }
    peers.forgetEnded(ended);
  }

  async #judgeAll(link: ModuleLink): Promise<void> {
    const { reconciler } = this.#parts;
    await reconciler.reconcile(link);
    await reconciler.recheck(link);
  }

  #flow(event: BodyOf<"flow">, flags: number): void {
    const { book, flows, log, peers, registry } = this.#parts;
    const rule = event.rule === 0 ? undefined : book.ruleName(event.tableGeneration, event.rule);
    const process = registry.get(event.instance)?.evidence.name ?? "";
    // A connection that needs no SVID does not wait for one, and goes by the identity's rules all the same.
    const ownId = event.ownId || (registry.subjects().get(event.subject)?.toString() ?? "");
    const isOwn = event.reason === REASON.withdrawn || event.reason === REASON.noIdentity;
    const ended = event.reason === REASON.revoked ? event.peerId : isOwn ? ownId : "";
    const statement = peers.causeOf(ended);
    const view = flows.take(event, flags, { process, own: ownId, rule, statement });
    if ((flags & FRAME_FLAG.snapshot) !== 0) return;
    const { state, direction, pid, own, peer, local, remote, reason, mode } = view;
    log.debug("flow", { state, direction, pid, process: view.process, own, peer, local, remote, rule, reason, mode });
  }

  #later(event: string, work: Later): void {
    work.catch((thrown: unknown) => {
      this.#parts.log.error(event, { error: describeError(thrown) });
    });
  }
}
