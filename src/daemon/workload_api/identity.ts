// Who a caller is by the rules in force: attested at each call, and again while its streams live. Remembers nothing.

import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import type { ProcessEvidence } from "../attestation/evidence.ts";
import type { WantedLabels } from "../attestation/wanted.ts";
import type { Attestor } from "../attestation.ts";
import { judgeProcess } from "../judge.ts";
import type { Log } from "../log.ts";
import type { Assignment } from "../registry.ts";
import type { RuleBook } from "../rule_book.ts";
import type { Caller } from "./caller.ts";
import { CallRefusal } from "./refusal.ts";

/** Rules that change faster than a process can be attested. */
const TRIES_MAX = 3;
/** The module's report of a program that began just now comes within milliseconds; a refusal costs a client a second. */
const REPORT_WAITS_MS = [10, 40, 150] as const;

export interface IdentityParts {
  readonly authority: Pick<NodeAuthority, "revokedIdReason">;
  readonly attestor: Attestor;
  readonly book: Pick<RuleBook, "resources" | "wanted"> & Partial<Pick<RuleBook, "revokedExecutable">>;
  readonly clock: Clock;
  readonly log: Log;
  /** For a rule that gives none. */
  readonly lifetimeSeconds: number;
}

export interface Identified {
  readonly assignment: Assignment;
  readonly evidence: ProcessEvidence;
}

/** Throws CallRefusal: `permissionDenied` when the rules give the caller no identity, `unavailable` when that cannot be told now. */
export async function identify(caller: Caller, parts: IdentityParts): Promise<Identified> {
  const { attestor, book, clock, lifetimeSeconds, log } = parts;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const { resources, wanted } = book;
    if (resources === undefined) throw new CallRefusal("unavailable", "no rules are in force yet");
    const { evidence, labels } = await attest(caller, { attestor, wanted, clock, log });
    // Judged by rules that are no longer in force: once more.
    if (book.resources !== resources) continue;
    const judgement = judgeProcess(labels, resources, {
      lifetimeSeconds,
      revokedIdReason: (id) => parts.authority.revokedIdReason(id),
      revokedExecutable: (sha256) => book.revokedExecutable?.(sha256),
    });
    switch (judgement.outcome) {
      case "identity":
        return { assignment: judgement.assignment, evidence };
      case "refused":
        log.warn("a process was refused an identity", {
          pid: caller.pid,
          rule: judgement.rule,
          reason: judgement.reason,
        });
        throw new CallRefusal("permissionDenied", `no identity issued: ${judgement.reason}`);
      case "unmanaged":
        throw new CallRefusal("permissionDenied", "no identity issued: no rule selects this process");
    }
  }
  throw new CallRefusal("unavailable", "the rules are changing");
}

type Attesting = Pick<IdentityParts, "attestor" | "clock" | "log"> & { readonly wanted: RuleBook["wanted"] };

async function attest(caller: Caller, { attestor, wanted, clock, log }: Attesting) {
  try {
    const evidence = await evidenceOf(caller, wanted, clock);
    const labels = await attestor.attest(evidence, wanted);
    // Every look was at the caller only if it has not ended until now.
    if (caller.isAlive()) return { evidence, labels };
  } catch (cause) {
    if (cause instanceof RiprapError && cause.code === "not_reported")
      throw new CallRefusal("permissionDenied", "no identity issued: no rule selects this process", { cause });
    if (cause instanceof RiprapError && cause.code === "another_program") {
      const fact = "the process has become another program since it connected; connect again";
      throw new CallRefusal("permissionDenied", `no identity issued: ${fact}`, { cause });
    }
    log.info("a caller of the Workload API could not be attested", { pid: caller.pid, error: describeError(cause) });
    throw new CallRefusal("unavailable", "workload attestation failed", { cause });
  }
  throw new CallRefusal("permissionDenied", "no identity issued: the process that connected has ended");
}

async function evidenceOf(caller: Caller, wanted: WantedLabels, clock: Clock): Promise<ProcessEvidence> {
  for (const wait of REPORT_WAITS_MS) {
    try {
      return caller.evidence(wanted);
    } catch (thrown) {
      if (!(thrown instanceof RiprapError) || thrown.code !== "not_reported") throw thrown;
      await clock.sleep(wait);
    }
  }
  return caller.evidence(wanted);
}
