// Who a caller is by the rules in force: attested at each call, and again while its streams live. Remembers nothing.

import { describeError } from "../../error.ts";
import type { ProcessEvidence } from "../attestation/evidence.ts";
import type { Attestor } from "../attestation.ts";
import { judgeProcess } from "../judge.ts";
import type { Log } from "../log.ts";
import type { Assignment } from "../registry.ts";
import type { RuleBook } from "../rule_book.ts";
import type { Caller } from "./caller.ts";
import { CallRefusal } from "./refusal.ts";

/** Rules that change faster than a process can be attested. */
const TRIES_MAX = 3;

export interface IdentityParts {
  readonly attestor: Attestor;
  readonly book: Pick<RuleBook, "resources" | "wanted">;
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
  const { attestor, book, lifetimeSeconds, log } = parts;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const { resources, wanted } = book;
    if (resources === undefined) throw new CallRefusal("unavailable", "no rules are in force yet");
    const { evidence, labels } = await attest(caller, { attestor, wanted, log });
    // Judged by rules that are no longer in force: once more.
    if (book.resources !== resources) continue;
    const judgement = judgeProcess(labels, resources, lifetimeSeconds);
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

type Attesting = Pick<IdentityParts, "attestor" | "log"> & { readonly wanted: RuleBook["wanted"] };

async function attest(caller: Caller, { attestor, wanted, log }: Attesting) {
  try {
    const evidence = caller.evidence();
    const labels = await attestor.attest(evidence, wanted);
    // Every look was at the caller only if it has not ended until now.
    if (caller.isAlive()) return { evidence, labels };
  } catch (cause) {
    log.info("a caller of the Workload API could not be attested", { pid: caller.pid, error: describeError(cause) });
    throw new CallRefusal("unavailable", "workload attestation failed", { cause });
  }
  throw new CallRefusal("permissionDenied", "no identity issued: the process that connected has ended");
}
