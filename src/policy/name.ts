// How rules and actions are called before people.
import { ACTION } from "../abi.ts";
import { matchesId } from "../id_pattern.ts";
import type { RuleInfo } from "../policy.ts";

/** `AccessPolicy/name#egress[0]`; of joined rules the one that names the peer, when it is known. */
export function nameRule(rule: RuleInfo, peer?: string): string {
  const meant = peer === undefined ? undefined : [rule, ...rule.joined].find((one) => namesPeer(one, peer));
  const { resource, direction, index } = meant ?? rule;
  const name = `AccessPolicy/${resource.name}#${direction}[${index}]`;
  return rule.joined.length === 0 || meant !== undefined ? name : `${name} or ${rule.joined.length} more`;
}

/** The same with its place. */
export function showRule(rule: RuleInfo | undefined, peer?: string): string {
  return rule === undefined
    ? "of an unknown number"
    : `${nameRule(rule, peer)} (${rule.source.file}:${rule.source.line})`;
}

/** What an allowed connection is like. */
export function nameAction(action: number): string {
  if (action === ACTION.mutual) return "mutual TLS";
  return action === ACTION.passthrough ? "the program's own TLS" : "plain TCP";
}

function namesPeer({ resource, direction, index }: RuleInfo, peer: string): boolean {
  const ends = resource[direction]?.[index]?.ends ?? [];
  return ends.some(({ peers }) => peers.some((pattern) => matchesId(pattern, peer)));
}
