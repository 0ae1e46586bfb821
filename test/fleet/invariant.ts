// What must hold on every node of a fleet that has come to rest: asked of each daemon, and found again on its disk with the root's key and nothing else.

import { expect } from "bun:test";
import { publicKeysOf } from "../../src/ca.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import type { FleetStatusView } from "../../src/daemon/fleet/port.ts";
import { FleetState } from "../../src/federation/fleet_state.ts";
import { openStatementStore } from "../../src/federation/fleet_store.ts";
import { groupsOf } from "../../src/federation/node_group.ts";
import { findNode, mayIssue, resourcesFor } from "../../src/federation/roster.ts";
import { parseStatement, type Statement, verifyStatement } from "../../src/federation/statement.ts";
import { openStore, storePath } from "../../src/store.ts";
import { beside, WORKLOAD_KEY } from "./beside.ts";
import type { ParkNode } from "./park_node.ts";

const PATIENCE_MS = 60_000;
/** RFC 8446 section 6.2: certificate_revoked. */
const ALERT_REVOKED = 44;
const REVOKED = "revoked";
const TAKEN = "taken";

type Authority = Parameters<Parameters<typeof beside>[1]>[0];

export interface Said {
  /** Everything that was revoked, as its statement is named. */
  readonly revoked: readonly string[];
  /** Chains of peers that rest on something of that, and chains that rest on nothing of it; each with what it is. */
  readonly refusedChains: ReadonlyMap<string, readonly Uint8Array[]>;
  readonly takenChains: ReadonlyMap<string, readonly Uint8Array[]>;
}

/** Throws what does not hold on one of these nodes. Nobody says anything meanwhile but that he is there. */
export async function holdInvariants(nodes: readonly ParkNode[], said: Said): Promise<void> {
  const views: FleetStatusView[] = [];
  for (const node of nodes) {
    const { view, state, statements, refused } = await readAtRest(node);
    views.push(view);
    // Nothing unsigned, and nothing that somebody had no right to say.
    expect(statements.filter((statement) => !verifyStatement(statement)).map(({ key }) => key)).toEqual([]);
    expect(refused).toEqual([]);
    const self = findNode(state, node.name);
    if (self === undefined) throw new Error(`${node.name} is in no roster of its own`);
    const wanted = resourcesFor(state, { name: node.name, groups: groupsOf(state, self) }).map(({ name }) => name);
    expect(await node.resources()).toEqual(wanted.sort());
    const targets = view.revocations.map(({ target }) => target);
    expect(said.revoked.filter((target) => !targets.includes(target))).toEqual([]);
    expect(verdictsOf(node, { state, chains: said.refusedChains })).toEqual(
      [...said.refusedChains.keys()].map((what) => [what, REVOKED]),
    );
    expect(verdictsOf(node, { state, chains: said.takenChains })).toEqual(
      [...said.takenChains.keys()].map((what) => [what, TAKEN]),
    );
  }
  expect(new Set(views.map(({ generation }) => generation.digest)).size).toBe(1);
  const names = new Set(nodes.map(({ name }) => name));
  for (const { nodes: all, generation } of views) {
    const applied = all.filter(({ name }) => names.has(name)).map((each) => each.applied?.digest);
    expect(applied).toEqual(nodes.map(() => generation.digest));
  }
}

/** What a node signs for a workload of its own, beside its daemon. */
export function signSvid(stateDir: string, spiffeId: string, clock: Clock = systemClock) {
  const request = { spiffeId, publicKey: WORKLOAD_KEY, lifetimeSeconds: 3600, context: {} };
  return beside(stateDir, (authority) => authority.issueX509Svid(request), clock);
}

interface AtRest {
  readonly view: FleetStatusView;
  /** Made anew of the statements on the disk. */
  readonly state: FleetState;
  readonly statements: readonly Statement[];
  /** Of them, those that do not stand by the root's key. */
  readonly refused: readonly string[];
}

/** Until what the daemon says and what its disk says are of one moment. */
async function readAtRest(node: ParkNode): Promise<AtRest> {
  for (const end = performance.now() + PATIENCE_MS; ; await Bun.sleep(50)) {
    const view = await node.status();
    const read = rebuild(node, view.trustDomain);
    if (read.state.root() === view.root) return { view, ...read };
    if (performance.now() > end)
      throw new Error(`${node.name} says ${view.root}, and has ${read.state.root()} on its disk: ${read.refused}`);
  }
}

function rebuild(node: ParkNode, trustDomain: string): Omit<AtRest, "view"> {
  const roots = beside(node.stateDir, ({ bundle }) => publicKeysOf(bundle), node.clock);
  const statements = readStatements(node.stateDir);
  const state = new FleetState({ trustDomain, roots });
  const outcomes = state.applyAll(statements, node.clock.now());
  const refused = outcomes.filter(({ outcome }) => outcome.outcome !== "accepted");
  return { state, statements, refused: refused.map(({ statement }) => statement.key) };
}

/** What stands on a node's disk, whether its daemon runs or not. */
export function readStatements(stateDir: string): readonly Statement[] {
  const store = openStore(storePath(stateDir));
  try {
    return [...openStatementStore(store).load()].map(parseStatement);
  } finally {
    store.close();
  }
}

/** What the daemon decides of a peer that shows the chain, by the CA and the roster of that node. */
function verdictsOf(node: ParkNode, { state, chains }: { state: FleetState; chains: Said["takenChains"] }) {
  const judge = (authority: Authority, chain: readonly Uint8Array[]) => {
    const answer = authority.verifyPeerChain(chain);
    if (!answer.ok) return answer.alert === ALERT_REVOKED ? REVOKED : answer.code;
    const certificates = answer.serials.map((serial, i) => ({ serial, authority: answer.signers[i] ?? "" }));
    const may = mayIssue(state, { spiffeId: answer.spiffeId.toString(), certificates });
    return may.ok ? TAKEN : may.code.endsWith(`_${REVOKED}`) ? REVOKED : may.code;
  };
  return beside(
    node.stateDir,
    (authority) => [...chains].map(([what, chain]) => [what, judge(authority, chain)]),
    node.clock,
  );
}
