// The compiler and the kernel's lookup against a naive judge, on random rules and random connections.
import { describe, expect, test } from "bun:test";
import { ACTION, MODE } from "../../src/abi.ts";
import { TableReader } from "../../src/policy/reader.ts";
import { compilePolicy, describeRule } from "../../src/policy.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { seeded } from "../abi/sample.ts";
import { trustDomain } from "../resource/sample.ts";
import { allowsNaively, judgeNaively, toNumber } from "./naive.ts";
import { ADDRESSES, bytesOf, IDS, PEERS, pick, REMOTE_PORTS, REMOTES, randomResources } from "./random.ts";

describe("compilePolicy()", () => {
  test("agrees with a naive judge of the resources on random connections", () => {
    const random = seeded(0x12ab34);
    const outcomes = new Map<string, number>();
    for (let round = 0; round < 150; round++) {
      const resources = randomResources(random);
      const subjects = new Map(IDS.map((id, i) => [i + 1, SpiffeId.parse(id)]));
      const compiled = compilePolicy({ resources, trustDomain, subjects, addresses: ADDRESSES, generation: 1n });
      const reader = new TableReader(compiled.table);
      for (let i = 0; i < 60; i++) {
        const subject = 1 + random(IDS.length);
        const direction = pick(random, ["egress", "ingress"] as const);
        const connection = {
          id: IDS[subject - 1] ?? "",
          direction,
          remote: toNumber(pick(random, REMOTES)),
          port: pick(random, REMOTE_PORTS),
        };
        const query = {
          subject,
          inbound: direction === "ingress",
          remote: bytesOf(connection.remote),
          port: connection.port,
        };
        const naive = judgeNaively(connection, resources, ADDRESSES);
        const verdict = reader.verdict(query);
        const peer = pick(random, PEERS);
        const denial = naive.matches.find((match) => match.tls === "deny" && match.peers.length === 0);
        const allow = naive.matches.find((match) => match.tls !== "deny");
        const wanted = naive.mode === "none" || denial !== undefined || allow === undefined ? "deny" : allow.tls;
        const ruling = naive.mode === "none" ? undefined : (denial ?? allow);
        const named = compiled.rules.get(verdict.rule);
        const seen = {
          rule: named && describeRule(named),
          mode: verdict.mode,
          action: verdict.action,
          peer: reader.judgePeer(query, peer).isAllowed,
        };
        const expected = {
          rule: ruling && `AccessPolicy/${ruling.rule}`,
          mode: MODE[naive.mode],
          action: ACTION[wanted],
          peer: naive.mode !== "none" && allowsNaively(naive, peer),
        };
        outcomes.set(
          `${naive.mode} ${wanted} ${expected.peer}`,
          (outcomes.get(`${naive.mode} ${wanted} ${expected.peer}`) ?? 0) + 1,
        );
        if (!Bun.deepEquals(seen, expected)) {
          throw new Error(
            `${JSON.stringify({ round, i, peer, ...connection, remote: connection.remote.toString(16), seen, expected, naive })}`,
          );
        }
      }
    }
    // The fuzz run is worth something only if it reached every kind of outcome.
    for (const outcome of [
      "none deny false",
      "enforce deny false",
      "enforce mutual true",
      "enforce mutual false",
      "enforce plain false",
      "observe passthrough false",
    ]) {
      expect([outcome, (outcomes.get(outcome) ?? 0) > 10]).toEqual([outcome, true]);
    }
  }, 60_000);
});
