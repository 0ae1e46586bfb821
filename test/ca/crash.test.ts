// kill -9 at each step of a rotation: what is there afterwards signs, is believed, and goes on to the end.

import { describe, expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { Authorities } from "../../src/ca/authorities.ts";
import { openJwtAuthority, trustBundle } from "../../src/ca.ts";
import { validateJwtSvid } from "../../src/jwt_svid.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode } from "./authority_fixture.ts";
import { ROTATIONS } from "./rotation.ts";

/** 128 and the number of the signal. */
const SIGKILLED = 137;
const AT_ONCE = 4;
const TEST_MS = 240_000;

const scratch = scratchDirectories();
const workload = makeWorkloadKey();
const request = { spiffeId: "spiffe://example.org/app", publicKey: workload.point, lifetimeSeconds: 3600, context: {} };
const issue = ({ authority }: Pick<Node, "authority">) => authority.issueX509Svid(request);
/** A node in its first minute, to be copied; with an SVID that was signed before. */
async function template(): Promise<{ stateDir: string; chain: readonly Uint8Array[]; sequence: bigint }> {
  const node = await makeNode(scratch());
  new Authorities(node);
  const { chain } = issue(node);
  const sequence = trustBundle(node.store, node.authority, openJwtAuthority(node)).sequence ?? 0n;
  node.close();
  return { stateDir: node.stateDir, chain, sequence };
}

function copyOf(stateDir: string): string {
  const folder = join(scratch(), "state");
  cpSync(stateDir, folder, { recursive: true });
  return folder;
}

/** Runs the rotation on a copy in a process of its own, which kills itself at that step or, where there is none, comes to the end. */
async function run(from: string, name: string, dieAt: number): Promise<{ stateDir: string; code: number }> {
  const stateDir = copyOf(from);
  const words = [process.execPath, join(import.meta.dir, "rotation.ts"), name, stateDir, String(dieAt)];
  const { exited } = Bun.spawn(words, { stdio: ["ignore", "ignore", "inherit"] });
  return { stateDir, code: await exited };
}

async function holds(stateDir: string, before: { sequence: bigint }): Promise<bigint> {
  const node = openNode(stateDir, new ManualClock());
  const svid = issue(node);
  expect(node.authority.verifyPeerChain(svid.chain)).toMatchObject({ ok: true });
  const jwt = openJwtAuthority(node);
  const { token } = await jwt.issue({ spiffeId: request.spiffeId, audience: ["a"], context: {} });
  const bundle = trustBundle(node.store, node.authority, jwt);
  const answer = await validateJwtSvid(token, { audience: "a", now: node.clock.now(), keysOf: () => bundle.jwt });
  expect(answer).toMatchObject({ ok: true });
  expect(bundle.sequence).toBeGreaterThanOrEqual(before.sequence);
  const active = new Authorities(node).list().authorities.filter(({ phase }) => phase === "active");
  expect(active.map(({ kind }) => kind).sort()).toEqual(["jwt", "x509"]);
  const serials = node.store.prepare<{ n: number; d: number }>(
    "SELECT count(*) AS n, count(DISTINCT serial) AS d FROM (SELECT serial FROM ca_authority UNION ALL SELECT serial FROM ca_svid)",
  );
  expect(serials.get()?.n).toBe(serials.get()?.d as number);
  node.close();
  return bundle.sequence ?? 0n;
}

describe("a process that is killed", () => {
  test.each(Object.entries(ROTATIONS))(
    "by SIGKILL at any step of %s leaves a node that signs, is believed, and comes to the end when asked again",
    async (name, rotate) => {
      const { stateDir: from, chain, sequence } = await template();
      let deaths = 0;
      for (let dieAt = 0, isOver = false; !isOver; dieAt += AT_ONCE) {
        const ends = await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => run(from, name, dieAt + index)));
        isOver = ends.some(({ code }) => code === 0);
        for (const { stateDir, code } of ends) {
          if (code === 0) continue;
          expect(code).toBe(SIGKILLED);
          deaths += 1;
          const then = await holds(stateDir, { sequence });
          const node = openNode(stateDir, new ManualClock());
          const bundle = node.authority.bundle;
          // What was signed before is good as long as its root is in the bundle.
          const isGood = node.authority.verifyPeerChain(chain).ok;
          expect(isGood || bundle.length === 1).toBe(true);
          await rotate(new Authorities(node));
          expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
          node.close();
          await holds(stateDir, { sequence: then });
        }
      }
      expect(deaths).toBeGreaterThan(name.includes("root") ? 10 : 3);
    },
    TEST_MS,
  );
});
