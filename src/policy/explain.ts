// Answers "why, and what would allow it" from a compiled table. Looks up exactly as the kernel does.
import { ACTION, MODE, REASON } from "../abi.ts";
import { parseAddress } from "../address.ts";
import { RiprapError } from "../error.ts";
import type {
  BundleKnowledge,
  CompiledPolicy,
  PolicyAnswer,
  PolicyInput,
  PolicyQuestion,
  RuleInfo,
} from "../policy.ts";
import type { PortRange } from "../port_range.ts";
import type { Service } from "../resource.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import { nameOf } from "./expand.ts";
import { nameAction, showRule } from "./name.ts";
import type { Connection, TableReader, Verdict } from "./reader.ts";
import { remedyFor, remedyForStranger } from "./remedy.ts";
import { PolicyIndex } from "./subject.ts";

export interface Ground extends Pick<PolicyInput, "resources" | "addresses">, BundleKnowledge {
  /** With the asking identity as subject 1. */
  readonly compiled: CompiledPolicy;
  readonly reader: TableReader;
}

/** Places of one service that are looked at; more would say nothing new to a person. */
const PLACES_MAX = 64;

interface Place {
  readonly address: Uint8Array;
  readonly port: number;
  readonly text: string;
}

export function answerQuestion(question: PolicyQuestion, ground: Ground): PolicyAnswer {
  if (question.from === undefined) {
    const steps = ["No WorkloadIdentity selects this process: it has no identity, and riprap leaves it alone."];
    return { verdict: "unmanaged", mode: "none", rule: undefined, steps, remedy: undefined };
  }
  const direction = question.inbound === true ? "ingress" : "egress";
  const steps = [`The identity is ${question.from}.`];
  const selecting = new PolicyIndex(ground.resources.policies)
    .select(question.from)
    .filter((policy) => policy[direction]);
  for (const policy of selecting) {
    const { file, line } = policy.source;
    steps.push(`AccessPolicy ${policy.name} (${file}:${line}) selects it for ${direction}, mode ${policy.mode}.`);
  }
  const answers = judge(question, ground);
  const worst = worstOf(answers);
  if (worst === undefined) throw invalid("it names no place, service or peer");
  for (const answer of answers.slice(0, 8)) steps.push(...answer.steps);
  const mode = modeName(worst.mode);
  const rule = worst.rule;
  const stranger = worst.outcome === "allow" ? strangerOf(question, ground) : undefined;
  if (stranger !== undefined) {
    steps.push(`No bundle of ${stranger} is held, so every certificate chain of it is refused.`);
    return { verdict: "deny", mode, rule, steps, remedy: remedyForStranger(stranger, ground.resources) };
  }
  if (worst.outcome !== "deny") return { verdict: worst.outcome, mode, rule, steps, remedy: undefined };
  const remedy = remedyFor(question, { ...ground, denied: rule, unresolved: worst.unresolved });
  if (worst.mode === MODE.enforce) return { verdict: "deny", mode, rule, steps, remedy };
  steps.push(`The mode is ${mode}: it goes through plain, and its flow record says that it would be refused.`);
  return { verdict: "plain", mode, rule, steps, remedy };
}

/** The trust domain of a peer who cannot prove its ID here. */
function strangerOf({ to: { peer } }: PolicyQuestion, { resources, isHeld }: Ground): TrustDomain | undefined {
  if (peer === undefined || isHeld === undefined || peer.isMemberOf(resources.trustDomain)) return undefined;
  return isHeld(peer.trustDomain) ? undefined : peer.trustDomain;
}

/** A place that a rule denies comes before one that none allows: the latter's remedy would not be enough. */
function worstOf(answers: readonly Judgement[]): Judgement | undefined {
  const denied = answers.filter((answer) => answer.outcome === "deny");
  return (
    denied.find((answer) => answer.rule !== undefined) ??
    denied[0] ??
    answers.find((answer) => answer.outcome === "plain") ??
    answers[0]
  );
}

interface Judgement {
  /** What the rules say, before the mode softens it. */
  readonly outcome: "allow" | "deny" | "plain";
  readonly mode: number;
  readonly rule: RuleInfo | undefined;
  readonly steps: readonly string[];
  /** The service that has no address now. */
  readonly unresolved?: string;
}

function judge(question: PolicyQuestion, ground: Ground): Judgement[] {
  const { address, port, service, peer } = question.to;
  if (address !== undefined) {
    const bytes = parseAddress(address);
    if (bytes === undefined) throw invalid(`${JSON.stringify(address)} is not an address`);
    if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65535)
      throw invalid("it names an address without a port");
    return [judgePlace({ address: bytes, port, text: showPlace(address, port) }, question, ground)];
  }
  if (service !== undefined) {
    if (question.inbound === true) throw invalid("a Service is reached, and reaches nobody");
    const found = ground.resources.services.get(service);
    if (found === undefined)
      throw new RiprapError("not_found", `Cannot explain: there is no Service ${JSON.stringify(service)}`);
    return judgeService(found, question, ground);
  }
  if (peer !== undefined) return [judgePeer(String(peer), question, ground)];
  throw invalid("it names no place, service or peer");
}

function judgePlace(place: Place, question: PolicyQuestion, { compiled, reader }: Ground): Judgement {
  const inbound = question.inbound === true;
  const connection: Connection = { subject: 1, inbound, remote: place.address, port: place.port };
  const verdict = reader.verdict(connection);
  const { mode } = verdict;
  if (verdict.reason === REASON.noPolicy) {
    const steps = [`No policy selects it for ${inbound ? "ingress" : "egress"}: the connection is plain.`];
    return { outcome: "plain", mode, rule: undefined, steps };
  }
  const rule = compiled.rules.get(verdict.rule);
  if (verdict.reason === REASON.noRule) {
    return {
      outcome: "deny",
      mode,
      rule,
      steps: [`No rule allows ${place.text}, and what no rule allows is refused.`],
    };
  }
  if (verdict.action === ACTION.deny) {
    const steps = [`Rule ${showRule(rule)} denies ${place.text}, and deny beats allow.`];
    return { outcome: "deny", mode, rule, steps };
  }
  const steps = verdict.matches.map((match) => {
    const peers = match.peerSet === 0 ? "" : `, for peers ${reader.peersOf(match.peerSet).slice(0, 8).join(", ")}`;
    return `Rule ${showRule(compiled.rules.get(match.rule))} allows ${place.text} by ${nameAction(match.action)}${peers}.`;
  });
  if (verdict.action !== ACTION.mutual)
    return { outcome: verdict.action === ACTION.plain ? "plain" : "allow", mode, rule, steps };
  return judgePeerAt(verdict, { question, connection, rule, steps, ground: { compiled, reader } });
}

interface PeerContext {
  readonly question: PolicyQuestion;
  readonly connection: Connection;
  readonly rule: RuleInfo | undefined;
  readonly steps: readonly string[];
  readonly ground: Pick<Ground, "compiled" | "reader">;
}

/** A mutual connection stands when its peer is in one of the matching mutual rules. */
function judgePeerAt(verdict: Verdict, { question, connection, rule, steps, ground }: PeerContext): Judgement {
  const { mode } = verdict;
  const peer = question.to.peer === undefined ? undefined : String(question.to.peer);
  if (peer === undefined) {
    const isBound = verdict.matches.every((match) => match.action !== ACTION.mutual || match.peerSet !== 0);
    const says = isBound
      ? "The other end must prove one of these SPIFFE IDs."
      : "The other end must prove any SPIFFE ID of a trusted domain.";
    return { outcome: "allow", mode, rule, steps: [...steps, says] };
  }
  const { isAllowed, rule: number } = ground.reader.judgePeer(connection, peer);
  const found = ground.compiled.rules.get(number);
  if (isAllowed)
    return {
      outcome: "allow",
      mode,
      rule: found,
      steps: [...steps, `Rule ${showRule(found, peer)} lets ${peer} be the other end.`],
    };
  const why =
    found === undefined
      ? `None of these rules lets ${peer} be the other end.`
      : `Rule ${showRule(found, peer)} denies peer ${peer}, and deny beats allow.`;
  return { outcome: "deny", mode, rule: found, steps: [...steps, why] };
}

function judgeService(service: Service, question: PolicyQuestion, ground: Ground): Judgement[] {
  const places: Place[] = [];
  for (const { target, ports } of service.addresses) {
    const texts =
      "prefix" in target
        ? [target.prefix.toString().replace(/\/\d+$/, "")]
        : (ground.addresses.get(nameOf(target)) ?? []);
    const asked = question.to.port ?? (ports.length === 0 ? portOfRules(service, ground) : undefined);
    for (const port of portsOf(ports, asked)) {
      for (const text of texts) {
        const address = parseAddress(text);
        if (address !== undefined)
          places.push({ address, port, text: `${showPlace(text, port)} of Service ${service.name}` });
      }
    }
  }
  if (places.length > 0) return places.slice(0, PLACES_MAX).map((place) => judgePlace(place, question, ground));
  const { egressMode } = ground.reader.modesOf(1);
  const steps = [
    `Service ${service.name} has no address${question.to.port === undefined ? "" : ` with port ${question.to.port}`} now, so nothing can be matched.`,
  ];
  return [
    {
      outcome: egressMode === MODE.none ? "plain" : "deny",
      mode: egressMode,
      rule: undefined,
      steps,
      unresolved: service.name,
    },
  ];
}

/** A service on any port is asked about at a port that some rule for it names. */
function portOfRules(service: Service, { resources }: Ground): number {
  const rules = resources.policies.flatMap(({ egress }) => egress ?? []);
  const naming = rules.filter(
    ({ ends, ports }) => ports.length > 0 && ends.some((end) => end.service === service.name),
  );
  return naming[0]?.ports[0]?.from ?? 443;
}

/** One port of each range stands for it. */
function portsOf(ranges: readonly PortRange[], asked: number | undefined): readonly number[] {
  if (asked !== undefined) {
    return ranges.length === 0 || ranges.some(({ from, to }) => from <= asked && asked <= to) ? [asked] : [];
  }
  return ranges.length === 0 ? [443] : ranges.map(({ from }) => from);
}

/** Without a place: is there a rule at all under which this peer could be the other end? */
function judgePeer(peer: string, question: PolicyQuestion, { compiled, reader }: Ground): Judgement {
  const inbound = question.inbound === true;
  const { egressMode, ingressMode } = reader.modesOf(1);
  const mode = inbound ? ingressMode : egressMode;
  if (mode === MODE.none) {
    const steps = [`No policy selects it for ${inbound ? "ingress" : "egress"}: the connection is plain.`];
    return { outcome: "plain", mode, rule: undefined, steps };
  }
  const naming = reader.rules.filter((rule) => (rule.inbound === 1) === inbound && reader.hasPeer(rule.peerSet, peer));
  const denying = naming.find((rule) => rule.action === ACTION.deny && rule.prefixLen === 0 && rule.portBits === 0);
  if (denying !== undefined) {
    const rule = compiled.rules.get(denying.number);
    return {
      outcome: "deny",
      mode,
      rule,
      steps: [`Rule ${showRule(rule)} denies peer ${peer}, and deny beats allow.`],
    };
  }
  const allowing = naming.filter((rule) => rule.action === ACTION.mutual);
  const numbers = [...new Set(allowing.map((rule) => rule.number))];
  const [first] = numbers;
  if (first === undefined)
    return { outcome: "deny", mode, rule: undefined, steps: [`No rule lets ${peer} be the other end.`] };
  const isEverywhere = allowing.some((rule) => rule.prefixLen === 0 && rule.portBits === 0);
  const steps = numbers
    .slice(0, 8)
    .map((number) => `Rule ${showRule(compiled.rules.get(number))} lets ${peer} be the other end.`);
  if (!isEverywhere) steps.push("Only at the addresses and ports of these rules: ask with an address for one place.");
  return { outcome: "allow", mode, rule: compiled.rules.get(first), steps };
}

function showPlace(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function modeName(mode: number): PolicyAnswer["mode"] {
  const names = ["none", "observe", "permissive", "enforce"] as const;
  return names[mode] ?? "none";
}

function invalid(fact: string): RiprapError {
  return new RiprapError("invalid", `Cannot explain: ${fact}; ask for address:port, a service or a SPIFFE ID`);
}
