// What a revocation anywhere in the fleet does at the other nodes: chains are refused, connections cut, records name the statement, over a restart of the daemon too.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import { CUT_BY, FLOW_STATE, REASON } from "../../../src/abi.ts";
import { authorityIdOf, publicKeysOf } from "../../../src/ca.ts";
import { controlClient } from "../../../src/cli/client.ts";
import type { FlowView } from "../../../src/daemon/control/port.ts";
import type { FleetStatusView } from "../../../src/daemon/fleet/port.ts";
import { sampleBody } from "../../abi/sample.ts";
import { beside, WORKLOAD_KEY } from "../../fleet/beside.ts";
import { openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "../../fleet/fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "../../fleet/nats_server.ts";
import { FakeKernel } from "../fake_kernel.ts";
import { eventually, settle } from "../house.ts";

const TEST_MS = 60_000;
const ALERT = { revoked: 44 };
const NODES = [0, 1, 2, 3];

describe.skipIf(NATS_SERVER === null)("a revocation in a fleet (skipped without nats-server)", () => {
  const kernels = NODES.map(() => new FakeKernel());
  let nats: NatsPark;
  let park: Park;
  const node = (index: number) => park.nodes[index] as ParkNode;
  const kernel = (index: number) => kernels[index] as FakeKernel;

  beforeAll(async () => {
    nats = openPark();
    park = await openFleetPark([await nats.single()], NODES.length, 11, {
      openDevice: (index) => kernel(index).open,
    });
  }, TEST_MS);

  afterAll(async () => {
    await park?.leave();
    await nats?.leave();
  }, TEST_MS);

  const idOf = (name: string) => `spiffe://${TRUST_DOMAIN}/${name}`;

  /** A workload's SVID by a node, and the authority that signed it. */
  function svidOf(by: number, name: string): { chain: readonly Uint8Array[]; authority: string } {
    const request = { spiffeId: idOf(name), publicKey: WORKLOAD_KEY, lifetimeSeconds: 600, context: {} };
    const { chain } = beside(node(by).stateDir, (authority) => authority.issueX509Svid(request));
    const [, key = new Uint8Array()] = publicKeysOf(chain);
    return { chain, authority: authorityIdOf(key) };
  }

  /** Undefined while the node may sign nothing. */
  function authorityNow(by: number): string | undefined {
    try {
      return svidOf(by, "probe").authority;
    } catch {
      return undefined;
    }
  }

  let asks = 0n;
  /** The alert with which a node's daemon answers the module; 0: the chain is taken. */
  async function alertOf(at: number, chain: readonly Uint8Array[]): Promise<number | undefined> {
    asks += 1n;
    const ask = asks;
    const about = { flow: ask, instance: 1n, trustGeneration: kernel(at).trustGeneration, peerIsServer: 1 };
    kernel(at).send("verify", { ...about, ask, chain: [...chain] });
    await settle();
    return kernel(at)
      .ofType("verified")
      .find((answer) => answer.ask === ask)?.alert;
  }

  /** It connects to a workload of this node, and lives. */
  async function connect(at: number, name: string, chain: readonly Uint8Array[]): Promise<void> {
    expect(await alertOf(at, chain)).toBe(0);
    kernel(at).send("flow", flowOf(name, FLOW_STATE.open, REASON.rule));
    await settle();
  }

  const flowOf = (name: string, state: number, reason: number) => ({
    ...sampleBody("flow"),
    ...{ flow: BigInt(Bun.hash.crc32(name)), peerId: idOf(name), state, reason },
    ...{ error: 0, alert: 0, openedNs: BigInt(Date.now()) * 1_000_000n },
  });

  const isCut = (at: number, name: string) =>
    kernel(at)
      .ofType("cut")
      .some(({ by, reason, id }) => by === CUT_BY.peerId && reason === REASON.revoked && id === idOf(name));

  /** Until the daemon has the module cut it; the record that follows. */
  async function cutRecord(at: number, name: string): Promise<FlowView | undefined> {
    await eventually(() => isCut(at, name));
    kernel(at).send("flow", flowOf(name, FLOW_STATE.cut, REASON.revoked));
    await settle();
    const client = controlClient(join(dirname(node(at).stateDir), "control.sock"));
    const flows = await client.get<readonly FlowView[]>("/v1/flows", { query: { limit: "100" } });
    return flows.findLast(({ peer, state }) => peer === idOf(name) && state === "cut");
  }

  const statementIn = (notes: readonly string[]) => /statement ([0-9a-f]{64})/.exec(notes.join())?.[1] ?? "none";

  test(
    "of an authority: its chains are refused by the other nodes, connections on them are cut, and the node asks for another",
    async () => {
      const { chain, authority } = svidOf(2, "by-authority");
      const bystander = svidOf(3, "bystander").chain;
      await connect(1, "by-authority", chain);
      await connect(1, "bystander", bystander);
      const { notes } = await node(0).command(`authority:${authority}`);
      expect(await cutRecord(1, "by-authority")).toMatchObject({ reason: "revoked", statement: statementIn(notes) });
      expect([await alertOf(1, chain), await alertOf(1, bystander)]).toEqual([ALERT.revoked, 0]);
      expect(isCut(1, "bystander")).toBe(false);
      // Nothing more is signed by what nobody takes.
      await eventually(() => ![undefined, authority].includes(authorityNow(2)));
      await park.settle();
      expect(await alertOf(1, svidOf(2, "by-authority").chain)).toBe(0);
    },
    TEST_MS,
  );

  test(
    "of a node, said while a daemon is stopped: it cuts at its start what lives on in the module",
    async () => {
      const { chain } = svidOf(2, "by-node");
      await connect(1, "by-node", chain);
      await connect(3, "by-node", chain);
      await node(3).stop();
      const { notes } = await node(0).command(`node:${node(2).name}`);
      const statement = statementIn(notes);
      expect(await cutRecord(1, "by-node")).toMatchObject({ reason: "revoked", statement });
      expect(await alertOf(1, chain)).toBe(ALERT.revoked);
      expect(isCut(3, "by-node")).toBe(false);
      kernel(3).liveFlows = [flowOf("by-node", FLOW_STATE.open, REASON.rule)];
      await node(3).start();
      expect(await cutRecord(3, "by-node")).toMatchObject({ reason: "revoked", statement });
      expect(await alertOf(3, chain)).toBe(ALERT.revoked);
      const refused = node(3).log.filter((line) => line.includes("a peer was refused"));
      expect(refused.at(-1)).toContain(statement);
    },
    TEST_MS,
  );

  test(
    "of an ID, known to a daemon that ended before the module had cut: it cuts at the next start, without any broker",
    async () => {
      const { chain } = svidOf(0, "by-id");
      await connect(3, "by-id", chain);
      kernel(3).refusals.set("cut", 12);
      const { notes } = await node(0).command(idOf("by-id"));
      await eventually(() => node(3).log.some((line) => line.includes("the module was not told of changed trust")));
      await node(3).stop();
      for (const proxy of node(3).proxies) proxy.isCut = true;
      const before = kernel(3).ofType("cut").length;
      await node(3).start();
      await eventually(() =>
        kernel(3)
          .ofType("cut")
          .slice(before)
          .some(({ id }) => id === idOf("by-id")),
      );
      expect((await cutRecord(3, "by-id"))?.statement).toBe(statementIn(notes));
    },
    TEST_MS,
  );

  test(
    "of a node that was away: a peer tells it when it is back, it says so, and it signs nothing more",
    async () => {
      expect(authorityNow(3)).toBeDefined();
      for (const proxy of node(3).proxies) proxy.isCut = true;
      await park.until("it is away", ([view]) => view?.state === "offline", [node(3)]);
      const { notes } = await node(0).command(`node:${node(3).name}`);
      const statement = statementIn(notes);
      const isRevoked = ({ state }: FleetStatusView) => state === "revoked";
      await park.until(
        "a peer knows it",
        ([view]) => view?.revocations.some((each) => each.statement === statement) === true,
        [node(1)],
      );
      // Not by its author, who is not there any more.
      await node(0).stop();
      expect(isRevoked(await node(3).status())).toBe(false);
      for (const proxy of node(3).proxies) proxy.isCut = false;
      await park.until("it is told", ([view]) => view !== undefined && isRevoked(view), [node(3)]);
      const { reason } = await node(3).status();
      expect(reason).toContain(`This node is revoked (statement ${statement.slice(0, 16)})`);
      expect(reason).toContain("join under another name");
      const event = (await node(3).events()).findLast(({ subject }) => subject === `node:${node(3).name}`);
      expect(event).toMatchObject({ event: "revoked", detail: expect.stringContaining(`from ${node(1).name}`) });
      expect(authorityNow(3)).toBeUndefined();
      await expect(node(3).renew()).rejects.toMatchObject({ code: "renewal_refused" });
    },
    TEST_MS,
  );
});
