// The path of one process: reported by the module, attested, judged, numbered, assigned, its key signed, renewed, and its end.

import type { BodyOf } from "../abi.ts";
import { CUT_BY, REASON } from "../abi.ts";
import { describeError, RiprapError } from "../error.ts";
import type { LabelSet } from "../label.ts";
import { evidenceOfFacts } from "./attestation/evidence.ts";
import type { Attestor } from "./attestation.ts";
import type { Issuance, OpenLink } from "./issuance.ts";
import { type Judgement, judgeProcess } from "./judge.ts";
import type { Log } from "./log.ts";
import type { Assignment, Registry, Workload } from "./registry.ts";
import type { RuleBook } from "./rule_book.ts";

export interface AdmissionParts {
  readonly registry: Registry;
  readonly attestor: Attestor;
  readonly book: RuleBook;
  readonly issuance: Issuance;
  readonly log: Log;
  /** For a rule that gives none. */
  readonly lifetimeSeconds: number;
}

export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** PROCESS: a program began, forked, changed its user, or was there before us. */
  async admit(facts: BodyOf<"process">, link: OpenLink): Promise<void> {
    const { registry } = this.#parts;
    const known = registry.get(facts.instance);
    if (known !== undefined) return await this.#answerAgain(known, link);
    const workload = registry.add(facts.instance, evidenceOfFacts(facts));
    // A daemon that waited for itself would wait for ever.
    if (facts.pid === process.pid) return this.#leaveAlone(workload, link);
    await this.decide(workload, link);
  }

  /** Attests and judges, then does what the judgement says. Also asked again whenever the rules have changed. */
  async decide(workload: Workload, link: OpenLink): Promise<void> {
    const { registry, book, log } = this.#parts;
    const rules = book.resources;
    const judgement = await this.#judge(workload);
    if (judgement === undefined || !registry.has(workload)) return;
    const { pid } = workload.evidence;
    switch (judgement.outcome) {
      case "unmanaged":
        return this.#leaveAlone(workload, link);
      case "refused":
        log.warn("a process was refused an identity", { pid, rule: judgement.rule, reason: judgement.reason });
        return this.withdraw(workload, link, { reason: REASON.noIdentity, because: judgement.reason });
      case "identity": {
        const { assignment, isAmbiguous } = judgement;
        if (isAmbiguous) log.warn("only the name decided between two rules", { pid, rule: assignment.rule });
        // The table first: under a number that it does not have, the module would see no policy at all.
        const subject = isAssigned(workload, assignment) ? 0 : await book.subjectOf(assignment.spiffeId);
        if (!registry.has(workload)) return;
        // Judged by rules that are no longer in force: once more.
        if (book.resources !== rules) return await this.decide(workload, link);
        return this.#assign(workload, { assignment, subject }, link);
      }
    }
  }

  /** KEY: the module made a key pair for this instance. */
  key({ instance, keyId, publicKey }: BodyOf<"key">, link: OpenLink): void {
    const { registry, issuance, log } = this.#parts;
    const workload = registry.get(instance);
    if (workload === undefined) {
      log.debug("a key came for a process that has ended", { instance });
      return;
    }
    workload.key = { keyId, publicKey };
    issuance.sign(workload, link);
  }

  /** A renewal or a retry is due. */
  renew(instance: bigint, link: OpenLink): void {
    const workload = this.#parts.registry.get(instance);
    if (workload !== undefined) this.#parts.issuance.renew(workload, link);
  }

  /** PROCESS_EXIT: the module has wiped the key; its SVIDs are journaled as revoked. */
  end(instance: bigint, link: OpenLink, because = "the process ended"): void {
    const { registry, issuance } = this.#parts;
    const workload = registry.remove(instance);
    if (workload !== undefined) issuance.revoke(instance, link.boot, because);
  }

  /** Takes the identity away: the module cuts its flows, wipes its key and refuses its connects. */
  withdraw(workload: Workload, link: OpenLink, why: { readonly reason: number; readonly because: string }): void {
    link.session.send("withdraw", { instance: workload.instance, reason: why.reason });
    workload.key = undefined;
    workload.state = { phase: "withdrawn", reason: why.because };
    this.#parts.issuance.revoke(workload.instance, link.boot, why.because);
  }

  /** The module asks once more about an instance, whose facts never change: the same answer, which leaves a valid SVID alone. */
  async #answerAgain(workload: Workload, link: OpenLink): Promise<void> {
    const { state, instance } = workload;
    if (state.phase === "pending") return;
    if (state.phase === "withdrawn") return await this.decide(workload, link);
    const { spiffeId } = state.assignment;
    const subject = await this.#parts.book.subjectOf(spiffeId);
    if (!this.#parts.registry.has(workload) || !isAssigned(workload, state.assignment)) return;
    link.session.send("assign", { instance, subject, spiffeId: spiffeId.toString() });
  }

  async #judge(workload: Workload): Promise<Judgement | undefined> {
    const { attestor, book, issuance, log, lifetimeSeconds } = this.#parts;
    if (book.resources === undefined) return undefined;
    let labels: LabelSet;
    try {
      labels = await attestor.attest(workload.evidence, book.wanted);
    } catch (thrown) {
      // Not judged: the module's unknown mode holds for it, or its exit is on the way.
      const isGone = thrown instanceof RiprapError && thrown.code === "not_found";
      const facts = { pid: workload.evidence.pid, error: describeError(thrown) };
      log[isGone ? "debug" : "warn"]("a process could not be attested", facts);
      return undefined;
    }
    return judgeProcess(labels, book.resources, {
      lifetimeSeconds,
      revokedIdReason: (spiffeId) => issuance.revokedIdReason(spiffeId),
      revokedExecutable: (sha256) => book.revokedExecutable(sha256),
    });
  }

  #assign(workload: Workload, decided: { assignment: Assignment; subject: number }, link: OpenLink): void {
    const { issuance, registry } = this.#parts;
    const { state, instance } = workload;
    const { subject } = decided;
    const assignment = registry.share(decided.assignment);
    if ("assignment" in state && isAssigned(workload, assignment)) {
      workload.state = { ...state, assignment };
      return;
    }
    if ("assignment" in state) {
      this.#cut(workload, link);
      issuance.revoke(instance, link.boot, "the rules give the process another identity");
    }
    workload.key = undefined;
    workload.state = { phase: "assigned", assignment };
    link.session.send("assign", { instance, subject, spiffeId: assignment.spiffeId.toString() });
    // A device that answers at once has sent the key, and it is signed, by now.
    if (workload.state.phase === "assigned") issuance.expectKey(workload);
  }

  // The record goes: the module asks no more about it, and rules that may select it later find it by a scan.
  #leaveAlone(workload: Workload, link: OpenLink): void {
    const { registry, issuance } = this.#parts;
    if ("assignment" in workload.state) {
      this.#cut(workload, link);
      issuance.revoke(workload.instance, link.boot, "no rule selects the process any more");
    }
    registry.remove(workload.instance);
    link.session.send("assign", { instance: workload.instance, subject: 0, spiffeId: "" });
  }

  #cut({ instance }: Workload, link: OpenLink): void {
    link.session.send("cut", { value: instance, by: CUT_BY.instance, reason: REASON.withdrawn, id: "" });
  }
}

function isAssigned({ state }: Workload, { spiffeId }: Assignment): boolean {
  return "assignment" in state && state.assignment.spiffeId.equals(spiffeId);
}
