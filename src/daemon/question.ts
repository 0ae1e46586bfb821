// Answers a person's questions about one process: its labels, its identity, a rule for it, and whether it may reach something. Reads /proc; asks no module.

import { describeError, RiprapError } from "../error.ts";
import type { LabelSet } from "../label.ts";
import { describeRule, explainPolicy, type PolicyQuestion, type ServiceAddresses } from "../policy.ts";
import type { ResourceSet } from "../resource.ts";
import { generateWorkloadIdentity, matchIdentities } from "../selector.ts";
import { SpiffeId, type TrustDomain } from "../spiffe_id.ts";
import { evidenceOfProc, type ProcessEvidence } from "./attestation/evidence.ts";
import { ALL_LABELS } from "./attestation/wanted.ts";
import type { Attestor } from "./attestation.ts";
import type { AttestView, ExplainRequest, ExplainView } from "./control/port.ts";

export interface QuestionParts {
  readonly attestor: Attestor;
  /** What the kernel said of this process at its exec, if it did: better than /proc. */
  known(pid: number): ProcessEvidence | undefined;
  resources(): ResourceSet | undefined;
  addresses(): ServiceAddresses;
  /** Is a bundle of another trust domain held? */
  isHeld(trustDomain: TrustDomain): boolean;
}

/** Every label of a process and every WorkloadIdentity that matches. RiprapError `not_found`. */
export async function attestPid(pid: number, parts: QuestionParts): Promise<AttestView> {
  const labels = await labelsOf(pid, parts);
  const resources = parts.resources();
  const matches = resources === undefined ? [] : matchIdentities(labels, resources);
  return {
    pid,
    labels: Object.fromEntries([...labels].sort(([a], [b]) => (a < b ? -1 : 1))),
    matches: matches.map(({ identity, spiffeId, because }) => ({
      resource: `WorkloadIdentity/${identity.name}`,
      spiffeId: spiffeId?.toString() ?? "",
      because,
    })),
  };
}

export async function generateForPid(
  pid: number,
  workloadId: string | undefined,
  parts: QuestionParts,
): Promise<string> {
  return generateWorkloadIdentity(await labelsOf(pid, parts), workloadId);
}

/** RiprapError `not_found` or `invalid` for a bad question, `unavailable` before there are rules. */
export async function explainConnection(request: ExplainRequest, parts: QuestionParts): Promise<ExplainView> {
  const resources = parts.resources();
  if (resources === undefined) {
    throw new RiprapError("unavailable", "Cannot explain: no rules are in force; see `riprap status`");
  }
  const { from, steps } = await whoIs(request.from, resources, parts);
  const question: PolicyQuestion = { from, to: parseTarget(request.to, resources), inbound: request.inbound ?? false };
  const answer = explainPolicy(question, {
    ...{ resources, addresses: parts.addresses() },
    isHeld: (trustDomain) => parts.isHeld(trustDomain),
  });
  return {
    verdict: answer.verdict,
    mode: answer.mode,
    ...(answer.rule === undefined ? {} : { rule: describeRule(answer.rule) }),
    steps: [...steps, ...answer.steps],
    ...(answer.remedy === undefined ? {} : { remedy: answer.remedy }),
  };
}

async function labelsOf(pid: number, parts: QuestionParts): Promise<LabelSet> {
  try {
    return await parts.attestor.attest(parts.known(pid) ?? evidenceOfProc(pid), ALL_LABELS);
  } catch (thrown) {
    if (thrown instanceof RiprapError) throw thrown;
    throw new RiprapError("unavailable", `Cannot attest process ${pid}: ${describeError(thrown)}`, { cause: thrown });
  }
}

async function whoIs(
  text: string,
  resources: ResourceSet,
  parts: QuestionParts,
): Promise<{ from: SpiffeId | undefined; steps: string[] }> {
  if (!/^\d+$/.test(text)) {
    const from = SpiffeId.tryParse(text) ?? workloadNamed(text, resources);
    if (from !== undefined) return { from, steps: [] };
    throw new RiprapError(
      "invalid",
      `Cannot explain: ${JSON.stringify(text.slice(0, 80))} is no PID, no SPIFFE ID and no workload ID of a WorkloadIdentity`,
    );
  }
  const pid = Number(text);
  const labels = await labelsOf(pid, parts);
  const program = labels.get("process:exe")?.[0] ?? labels.get("process:name")?.[0] ?? "?";
  const steps = [`Process ${pid} runs ${program}.`];
  const [match] = matchIdentities(labels, resources);
  if (match === undefined) return { from: undefined, steps };
  const { identity, spiffeId, because } = match;
  const place = `${identity.source.file}:${identity.source.line}`;
  steps.push(`WorkloadIdentity ${identity.name} (${place}) selects it: ${because.join(", ")}.`);
  if (spiffeId !== undefined) return { from: spiffeId, steps };
  throw new RiprapError(
    "invalid",
    `Cannot explain: WorkloadIdentity ${identity.name} selects process ${pid}, but ${because.at(-1)}`,
  );
}

/** The ID of a workload that a WorkloadIdentity names as it stands, as a policy may write it. */
function workloadNamed(text: string, resources: ResourceSet): SpiffeId | undefined {
  const identity = resources.identities.find(({ workloadId }) => workloadId === text);
  return identity === undefined ? undefined : SpiffeId.tryParse(`${resources.trustDomain.id}/${text}`);
}

/** A SPIFFE ID, a Service's name (with a port or without), a workload ID, an address or an address with a port. */
function parseTarget(text: string, resources: ResourceSet): PolicyQuestion["to"] {
  if (text.startsWith("spiffe:")) return { peer: SpiffeId.parse(text) };
  if (resources.services.has(text)) return { service: text };
  const peer = workloadNamed(text, resources);
  if (peer !== undefined) return { peer };
  const [, bracketed, plain, portText] = /^(?:\[([^\]]+)\]|([^:]+)|[^[]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65_535)) {
    throw new RiprapError("invalid", `Cannot explain: ${port} is no port from 1 to 65535`);
  }
  const end = port === undefined ? {} : { port };
  if (host === undefined) return { address: text };
  return resources.services.has(host) ? { service: host, ...end } : { address: host, ...end };
}
