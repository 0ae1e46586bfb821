// A node with the root's key, whose root has said much, when that root is to end: the fleet is told, or nothing is moved; and the node starts.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Authorities } from "../../../src/ca/authorities.ts";
import { openNodeKeys, publicKeysOf } from "../../../src/ca.ts";
import { openFleetKey } from "../../../src/daemon/fleet/member.ts";
import { requireSayable } from "../../../src/daemon/fleet/root_voice.ts";
import { RosterKeeper } from "../../../src/daemon/fleet/roster_keeper.ts";
import { ROOT_KEEP_MAX } from "../../../src/federation/body.ts";
import { FleetState } from "../../../src/federation/fleet_state.ts";
import { openStatementStore } from "../../../src/federation/fleet_store.ts";
import { makeNode } from "../../ca/authority_fixture.ts";
import { ALL, hex, say, sayRevoked, take, voice } from "../../federation/fleet_fixture.ts";
import { scratchDirectories } from "../../scratch.ts";

setDefaultTimeout(30_000);
const scratch = scratchDirectories();

/** A node that founded its fleet, and whose root has said `words` things since then. */
async function founded(words: number) {
  const { stateDir, clock, store, authority } = await makeNode(scratch());
  const keys = openNodeKeys(stateDir);
  const options = () => ({ stateDir, store, keys, now: clock.now() });
  const points = publicKeysOf(authority.bundle);
  const errors: string[] = [];
  const quiet = { warn() {}, info() {}, debug() {} };
  const log = {
    ...quiet,
    error: (text: string, facts?: object) => void errors.push(`${text} ${JSON.stringify(facts)}`),
  };
  const open = () => {
    const state = new FleetState({ trustDomain: "example.org", roots: points, store: openStatementStore(store) });
    const signer = openFleetKey(keys);
    const self = () => ({ nodeName: "node-1", authorityKey: points[0] as Uint8Array, idPrefixes: ALL, signer });
    const keeper = new RosterKeeper({ ...{ state, stateDir, store, keys, signer, clock, log, self }, onChanges() {} });
    return { state, keeper };
  };
  const first = open();
  first.keeper.start();
  const root = keys.openKey("root");
  for (let n = 0; n < words; n++) {
    const body = { key: hex(voice(`n${n}`).publicKey), authority: undefined, idPrefixes: ALL };
    take(first.state, say(root, ["issuer", `n${n}`], body));
  }
  const authorities = new Authorities({
    ...{ stateDir, clock, store, keys },
    beforeRootMoves: (ending) => requireSayable(first.state, options(), ending),
  });
  const unguarded = new Authorities({ stateDir, clock, store, keys });
  const phases = () =>
    authorities
      .list()
      .authorities.filter(({ kind }) => kind === "x509")
      .map(({ phase }) => phase);
  return { ...first, open, errors, authorities, unguarded, phases, root, keys };
}

describe("RosterKeeper", () => {
  test("refresh() tells the fleet of the end of a root that has said hundreds of things, and they stand", async () => {
    const { state, keeper, authorities, open, errors } = await founded(300);
    const next = await authorities.prepare("x509");
    await authorities.activate(next.authority.id, { force: true });
    keeper.refresh();
    expect(state.roots?.map((entry) => [entry.state, entry.keep.length])).toEqual([
      ["retired", 302],
      ["trusted", 0],
    ]);
    expect(state.list("issuer").length).toBe(301);
    const again = open();
    again.keeper.start();
    expect(again.state.root()).toBe(state.root());
    expect(errors).toEqual([]);
  });

  test("requireSayable() refuses to move a root that has said more than a record names, before anything is moved", async () => {
    const { authorities, phases } = await founded(ROOT_KEEP_MAX - 1);
    const next = await authorities.prepare("x509");
    const refused = { code: "roots_too_much", message: expect.stringContaining("1025 statements of roots") };
    const before = phases();
    await expect(authorities.activate(next.authority.id, { force: true })).rejects.toMatchObject(refused);
    const active = authorities.list().authorities.find(({ kind, phase }) => kind === "x509" && phase === "active");
    await expect(authorities.taint(active?.id ?? "", { force: true })).rejects.toMatchObject(refused);
    expect(phases()).toEqual(before);
  });

  test("start() goes on though the fleet cannot be told of the roots, and says it once", async () => {
    const { unguarded, open, errors } = await founded(ROOT_KEEP_MAX - 1);
    const next = await unguarded.prepare("x509");
    await unguarded.activate(next.authority.id, { force: true });
    const { keeper, state } = open();
    keeper.start();
    keeper.refresh();
    keeper.refresh();
    expect(errors.length).toBe(1);
    expect(errors[0]).toMatch(/^the fleet was not told of the roots .*1025 statements/);
    // The new root was brought in before that; only the end of the first one waits.
    expect(state.roots?.map((entry) => entry.state)).toEqual(["trusted", "trusted"]);
    expect(state.list("issuer").length).toBe(ROOT_KEEP_MAX);
  });

  test("start() goes on though the node's own role has ended and its entry stands no more", async () => {
    const { state, root, open, errors } = await founded(0);
    take(state, sayRevoked(root, { type: "issuer", value: "node-1" }));
    expect(state.standing.grantOf("node", "node-1")).toBeUndefined();
    open().keeper.start();
    expect(errors.join()).toContain("the roster could not be brought up to date");
  });
});
