// Who a caller is by the rules in force: attested at each call, and again while its streams live. Remembers nothing.

import type { NodeAuthority } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import type { LabelSet } from "../../label.ts";
import type { ResourceSet } from "../../resource.ts";
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

/** Rejects with CallRefusal: `permissionDenied` when the rules give the caller no identity, `unavailable` when that cannot be told now. */
export async function identify(caller: Caller, parts: IdentityParts): Promise<Identified> {
  const { book } = parts;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const { resources, wanted } = rulesOf(parts);
    const attested = await attest(caller, wanted, parts);
    // Judged by rules that are no longer in force: once more.
    if (book.resources === resources) return judge(attested, resources, parts);
  }
  throw new CallRefusal("unavailable", "the rules are changing");
}

/** The same at once, where nothing has to be waited for; else undefined. Throws what identify rejects with. */
export function tryIdentify(caller: Caller, parts: IdentityParts): Identified | undefined {
  const { resources, wanted } = rulesOf(parts);
  const evidence = tryEvidence(caller, wanted, parts);
  // Made of the evidence alone, after whose reading the caller was asked whether it lives.
  const labels = evidence && parts.attestor.tryAttest(evidence, wanted);
  return labels && judge({ evidence, labels }, resources, parts);
}

/** Undefined when the module's report may be on its way. */
function tryEvidence(caller: Caller, wanted: WantedLabels, parts: IdentityParts): ProcessEvidence | undefined {
  try {
    return caller.evidence(wanted);
  } catch (thrown) {
    if (isNotReported(thrown)) return undefined;
    throw refusalOf(thrown, caller, parts);
  }
}

function rulesOf({ book: { resources, wanted } }: IdentityParts) {
  if (resources === undefined) throw new CallRefusal("unavailable", "no rules are in force yet");
  return { resources, wanted };
}

interface Attested {
  readonly evidence: ProcessEvidence;
  readonly labels: LabelSet;
}

function judge({ evidence, labels }: Attested, resources: ResourceSet, parts: IdentityParts): Identified {
  const { authority, book, lifetimeSeconds, log } = parts;
  const judgement = judgeProcess(labels, resources, {
    lifetimeSeconds,
    revokedIdReason: (id) => authority.revokedIdReason(id),
    revokedExecutable: (sha256) => book.revokedExecutable?.(sha256),
  });
  if (judgement.outcome === "identity") return { assignment: judgement.assignment, evidence };
  if (judgement.outcome === "unmanaged")
    throw new CallRefusal("permissionDenied", "no identity issued: no rule selects this process");
  const { rule, reason } = judgement;
  log.warn("a process was refused an identity", { pid: evidence.pid, rule, reason });
  throw new CallRefusal("permissionDenied", `no identity issued: ${reason}`);
}

async function attest(caller: Caller, wanted: WantedLabels, parts: IdentityParts): Promise<Attested> {
  try {
    const evidence = await evidenceOf(caller, wanted, parts.clock);
    const labels = await parts.attestor.attest(evidence, wanted);
    // Every look was at the caller only if it has not ended until now.
    if (caller.isAlive()) return { evidence, labels };
  } catch (thrown) {
    throw refusalOf(thrown, caller, parts);
  }
  throw new CallRefusal("permissionDenied", "no identity issued: the process that connected has ended");
}

function refusalOf(cause: unknown, { pid }: Caller, { log }: IdentityParts): CallRefusal {
  if (isNotReported(cause))
    return new CallRefusal("permissionDenied", "no identity issued: no rule selects this process", { cause });
  if (cause instanceof RiprapError && cause.code === "another_program") {
    const fact = "the process has become another program since it connected; connect again";
    return new CallRefusal("permissionDenied", `no identity issued: ${fact}`, { cause });
  }
  log.info("a caller of the Workload API could not be attested", { pid, error: describeError(cause) });
  return new CallRefusal("unavailable", "workload attestation failed", { cause });
}

function isNotReported(thrown: unknown): boolean {
  return thrown instanceof RiprapError && thrown.code === "not_reported";
}

async function evidenceOf(caller: Caller, wanted: WantedLabels, clock: Clock): Promise<ProcessEvidence> {
  for (const wait of REPORT_WAITS_MS) {
    try {
      return caller.evidence(wanted);
    } catch (thrown) {
      if (!isNotReported(thrown)) throw thrown;
      await clock.sleep(wait);
    }
  }
  return caller.evidence(wanted);
}
