// The end of a process at each step of a rotation: what is there afterwards signs, is believed, and goes on to the end.

import { describe, expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { Authorities } from "../../src/ca/authorities.ts";
import { openAuthority, openJwtAuthority, trustBundle } from "../../src/ca.ts";
import { validateJwtSvid } from "../../src/jwt_svid.ts";
import { openStore, storePath } from "../../src/store.ts";
import { ManualClock } from "../manual_clock.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode } from "./authority_fixture.ts";
import { Death, mortal } from "./mortal.ts";

const scratch = scratchDirectories();
const workload = makeWorkloadKey();
const request = { spiffeId: "spiffe://example.org/app", publicKey: workload.point, lifetimeSeconds: 3600, context: {} };
const issue = ({ authority }: Pick<Node, "authority">) => authority.issueX509Svid(request);
type Rotate = (authorities: Authorities) => Promise<unknown>;

const idOf = (authorities: Authorities, kind: string, phase: string) =>
  authorities.list().authorities.find((one) => one.kind === kind && one.phase === phase)?.id ?? "";

/** Each can be asked for again after it was cut off, as a person would. */
const ROTATIONS: Readonly<Record<string, Rotate>> = {
  "the rotation of a root": async (authorities) => {
    if (idOf(authorities, "x509", "retired") === "") {
      if (idOf(authorities, "x509", "published") === "") await authorities.prepare("x509");
      await authorities.activate(idOf(authorities, "x509", "published"), { force: true });
    }
    await authorities.advance();
    const old = authorities.list().authorities.find(({ phase, isTainted }) => phase === "retired" && !isTainted);
    if (old !== undefined) await authorities.taint(old.id);
    for (const id of authorities.spentRoots()) await authorities.revoke(id);
  },
  "the renewal of the intermediate": (authorities) => authorities.renewIntermediate(),
  "the rotation of a JWT key": async (authorities) => {
    if (idOf(authorities, "jwt", "retired") === "") {
      if (idOf(authorities, "jwt", "published") === "") await authorities.prepare("jwt");
      await authorities.activate(idOf(authorities, "jwt", "published"), { force: true });
    }
    const old = idOf(authorities, "jwt", "retired");
    if (old !== "") await authorities.revoke(old);
  },
};

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

/** Runs the rotation until its death; false when it came to its end. */
async function dies(stateDir: string, dieAt: number, rotate: Rotate): Promise<boolean> {
  const { store, keys, close } = mortal(stateDir, dieAt);
  try {
    await rotate(new Authorities({ stateDir, clock: new ManualClock(), store, keys }));
    return false;
  } catch (thrown) {
    if (!(thrown instanceof Death)) throw thrown;
    return true;
  } finally {
    close();
  }
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

describe("a process that ends", () => {
  test.each(Object.entries(ROTATIONS))(
    "at any step of %s leaves a node that signs, is believed, and comes to the end when asked again",
    async (name, rotate) => {
      const { stateDir: from, chain, sequence } = await template();
      let deaths = 0;
      for (let dieAt = 0; ; dieAt += 1) {
        const stateDir = copyOf(from);
        if (!(await dies(stateDir, dieAt, rotate))) break;
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
      expect(deaths).toBeGreaterThan(name.includes("root") ? 20 : 6);
    },
    120_000,
  );

  test("by SIGKILL in the middle of a rotation leaves the same", async () => {
    const { stateDir: from, sequence } = await template();
    for (const dieAt of [4, 9, 15]) {
      const stateDir = copyOf(from);
      const script = `
        import { Authorities } from "${import.meta.dir}/../../src/ca/authorities.ts";
        import { mortal } from "${import.meta.dir}/mortal.ts";
        import { ManualClock } from "${import.meta.dir}/../manual_clock.ts";
        const die = () => { process.kill(process.pid, "SIGKILL"); for (;;); };
        const { store, keys } = mortal(${JSON.stringify(stateDir)}, ${dieAt}, die);
        const authorities = new Authorities({ stateDir: ${JSON.stringify(stateDir)}, clock: new ManualClock(), store, keys });
        const { authority } = await authorities.prepare("x509");
        await authorities.activate(authority.id, { force: true });`;
      const { signalCode } = Bun.spawnSync([process.execPath, "-e", script]);
      expect(signalCode).toBe("SIGKILL");
      await holds(stateDir, { sequence });
      const store = openStore(storePath(stateDir));
      const authority = openAuthority({ stateDir, clock: new ManualClock(), store });
      expect(authority.bundle.length).toBeGreaterThanOrEqual(1);
      authority.close();
      store.close();
    }
  }, 120_000);
});
