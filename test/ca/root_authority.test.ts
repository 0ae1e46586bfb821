// Roots and the intermediate through their life, judged by openssl and by chains.

import { describe, expect, test } from "bun:test";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { Authorities } from "../../src/ca/authorities.ts";
import { LIFE_POLICY } from "../../src/ca/life_cycle.ts";
import {
  createEnrolmentRequest,
  installEnrolment,
  openAuthority,
  openJwtAuthority,
  signEnrolment,
  trustBundle,
} from "../../src/ca.ts";
import { openStore, storePath } from "../../src/store.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey, type Node, openNode, openssl, pem } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const DAY = 24 * 3600 * 1000;
const workload = makeWorkloadKey();
const issue = ({ authority }: Pick<Node, "authority">) =>
  authority.issueX509Svid({
    spiffeId: "spiffe://example.org/app",
    publicKey: workload.point,
    lifetimeSeconds: 3600,
    context: {},
  });
const ids = (authorities: Authorities, phase: string) =>
  authorities
    .list()
    .authorities.filter((one) => one.kind === "x509" && one.phase === phase)
    .map(({ id }) => id);

/** A node with a second root that signs. */
async function rotated() {
  const node = await makeNode(scratch());
  const authorities = new Authorities(node);
  const before = issue(node);
  const { authority } = await authorities.prepare("x509");
  await node.clock.advance(LIFE_POLICY.publishAheadMs);
  await authorities.activate(authority.id);
  return { node, authorities, before, first: ids(authorities, "retired")[0] as string, second: authority.id };
}

describe("Authorities", () => {
  test("a root is in the bundle for its time before it signs, and the node's intermediate moves under it (X-5, X-17, F-1)", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const [first] = node.authority.bundle;
    const { authority } = await authorities.prepare("x509");
    expect(node.authority.bundle).toHaveLength(2);
    await expect(authorities.activate(authority.id)).rejects.toMatchObject({ code: "authority_too_early" });
    expect(issue(node).chain[1]).toBeDefined();
    await node.clock.advance(LIFE_POLICY.publishAheadMs);
    const done = await authorities.activate(authority.id.slice(0, 12));
    expect(done).toMatchObject({ done: "activate", authority: { phase: "active" }, notes: [] });
    const [leaf, intermediate] = issue(node).chain as [Uint8Array, Uint8Array];
    const root = node.authority.bundle[1] as Uint8Array;
    const files = {
      "root.pem": pem(root),
      "old.pem": pem(first as Uint8Array),
      "chain.pem": pem(intermediate),
      "leaf.pem": pem(leaf),
    };
    const verify = (anchor: string) =>
      openssl(
        scratch(),
        files,
        "verify",
        "-attime",
        String(node.clock.now() / 1000),
        "-x509_strict",
        "-CAfile",
        anchor,
        "-untrusted",
        "chain.pem",
        "leaf.pem",
      );
    expect(verify("root.pem")).toMatchObject({ code: 0 });
    expect(verify("old.pem").code).not.toBe(0);
    node.close();
  });

  test("an SVID of before stays good while its root is retired, and is refused when that is revoked", async () => {
    const { node, authorities, before, first } = await rotated();
    expect(node.authority.verifyPeerChain(before.chain)).toMatchObject({ ok: true });
    const epoch = node.authority.epoch;
    await authorities.taint(first);
    expect(node.authority.epoch).toBe(epoch + 1);
    expect(authorities.spentRoots()).toEqual([first]);
    expect(node.authority.verifyPeerChain(before.chain)).toMatchObject({ ok: true });
    await authorities.revoke(first);
    expect(node.authority.verifyPeerChain(before.chain)).toMatchObject({ ok: false, code: "unknown_root" });
    expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    expect(existsSync(join(node.stateDir, "ca", "root.key"))).toBe(false);
    expect(node.authority.bundle).toHaveLength(1);
    node.close();
  });

  test("taint() of the root that signs makes another and signs with it at once, when forced", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const [first] = ids(authorities, "active") as [string];
    await expect(authorities.taint(first)).rejects.toMatchObject({ code: "authority_in_use" });
    await authorities.taint(first, { force: true, reason: "it was seen on a laptop" });
    expect(ids(authorities, "active")).not.toEqual([first]);
    expect(authorities.list().intermediate.root).not.toBe(first);
    expect(authorities.events(9).find(({ event }) => event === "activated")).toMatchObject({ forced: true });
    node.close();
  });

  test("revoke() of the root that signs leaves a node that starts, says so and issues nothing", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const [first] = ids(authorities, "active") as [string];
    await authorities.prepare("x509");
    await expect(authorities.revoke(first)).rejects.toMatchObject({ code: "authority_in_use" });
    await authorities.revoke(first, { force: true });
    expect(() => issue(node)).toThrow(expect.objectContaining({ code: "issuer_revoked" }));
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(() => issue(again)).toThrow(expect.objectContaining({ code: "issuer_revoked" }));
    again.close();
  });

  test("each change of the roots grows the sequence of the bundle (B-3)", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const jwt = openJwtAuthority(node);
    const sequence = () => trustBundle(node.store, node.authority, jwt).sequence;
    const seen = [sequence()];
    const { authority } = await authorities.prepare("x509");
    seen.push(sequence());
    const [first] = ids(authorities, "active") as [string];
    await authorities.activate(authority.id, { force: true });
    seen.push(sequence());
    await authorities.revoke(first);
    seen.push(sequence());
    expect(seen).toEqual([1n, 2n, 2n, 3n]);
    node.close();
  });

  test("advance() renews the intermediate in place long before its end, and not before", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const before = issue(node);
    await node.clock.advance(240 * DAY);
    await authorities.advance();
    expect(authorities.list().intermediate.serial).toBe(node.authority.info().issuer.serial);
    const first = node.authority.info().issuer.serial;
    await node.clock.advance(10 * DAY);
    expect(await authorities.advance()).toBe(true);
    const { issuer } = node.authority.info();
    expect(issuer.serial).not.toBe(first);
    expect(issuer.notAfter.getTime()).toBe(node.clock.now() + 365 * DAY);
    expect(issue(node).chain[1]).not.toEqual(before.chain[1]);
    expect(node.authority.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(again.authority.info().issuer.serial).toBe(issuer.serial);
    again.close();
  });

  test("another process that has the CA open signs under the new intermediate from the next SVID on", async () => {
    const node = await makeNode(scratch());
    const store = openStore(storePath(node.stateDir));
    const other = openAuthority({ stateDir: node.stateDir, clock: node.clock, store });
    await new Authorities(node).renewIntermediate();
    expect(other.verifyPeerChain(issue(node).chain)).toMatchObject({ ok: true });
    expect(issue({ authority: other }).chain[1]).toEqual(issue(node).chain[1]);
    other.close();
    store.close();
    node.close();
  });

  test("info() warns half a year before the root ends, and says what to do", async () => {
    const node = await makeNode(scratch());
    const warned = () => node.authority.info().warnings.some((sentence) => sentence.includes("authority prepare x509"));
    expect(warned()).toBe(false);
    node.clock.set(node.clock.now() + (3650 - 179) * DAY);
    expect(warned()).toBe(true);
    node.close();
  });

  test("prepare() says where the root key is wanted, and a key that comes back is used", async () => {
    const node = await makeNode(scratch());
    const authorities = new Authorities(node);
    const key = join(node.stateDir, "ca", "root.key");
    renameSync(key, `${key}.away`);
    await expect(authorities.prepare("x509")).rejects.toMatchObject({ code: "root_not_here" });
    await expect(authorities.renewIntermediate()).rejects.toMatchObject({ code: "root_not_here" });
    expect(node.authority.info().holdsRootKey).toBe(false);
    renameSync(`${key}.away`, key);
    await authorities.prepare("x509");
    await expect(authorities.prepare("x509")).rejects.toMatchObject({ code: "authority_prepared" });
    node.close();
  });

  test("a node enrolled after the rotation trusts both roots and is under the new one", async () => {
    const { node, before } = await rotated();
    const stateDir = scratch();
    const { clock } = node;
    const asked = await createEnrolmentRequest({ stateDir, trustDomain: "example.org", nodeName: "node-2", clock });
    const grant = await signEnrolment({ stateDir: node.stateDir, request: asked, clock });
    await installEnrolment({ stateDir, grant, clock });
    const joined = openNode(stateDir, clock);
    expect(joined.authority.verifyPeerChain(before.chain)).toMatchObject({ ok: true });
    expect(node.authority.verifyPeerChain(issue(joined).chain)).toMatchObject({ ok: true });
    // Another joins under it: it does not go from under a living node unasked.
    const next = await new Authorities(node).prepare("x509");
    const authorities = new Authorities(node);
    const [current] = ids(authorities, "active") as [string];
    await authorities.activate(next.authority.id, { force: true });
    await expect(authorities.revoke(current)).rejects.toMatchObject({ code: "authority_in_use" });
    expect((await authorities.taint(current)).notes.join()).toContain("node-2");
    expect(authorities.spentRoots()).toEqual([]);
    expect((await authorities.revoke(current, { force: true })).notes.join()).toContain("node-2");
    expect(new Authorities(joined).list().authorities.map(({ phase, isHeld }) => [phase, isHeld])).toContainEqual([
      "active",
      false,
    ]);
    joined.close();
    node.close();
  });
});
