import { expect, test } from "bun:test";
import { Renewer, type RenewerParts } from "../../../src/daemon/fleet/renewer.ts";
import type { Said } from "../../../src/daemon/fleet/wire.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { encodeEnrolmentRequest } from "../../../src/federation/enrolment.ts";
import { openStore } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";

const DAY = 86_400_000;

type Fleet = RenewerParts["fleet"];

const ADA = { name: "ada", state: "active", isIssuer: false } as NonNullable<Fleet["self"]>;

/** Of a node whose intermediate is young and which no issuing node answers, but for what `fleet` and `parts` say. */
function makeRenewer(clock: ManualClock, fleet: Partial<Fleet>, parts: Partial<RenewerParts> = {}): Renewer {
  return new Renewer({
    fleet: {
      self: ADA,
      nodes: () => [],
      ask: () => Promise.reject(new Error("there is nobody")),
      journal: undefined as never,
      ...fleet,
    },
    ...{ stateDir: "", store: openStore(":memory:"), clock, random: () => 0.5 },
    log: createLog({ level: "error", clock, write: () => undefined }),
    validity: () => ({ notBefore: clock.now() - DAY, notAfter: clock.now() + 300 * DAY }),
    ...{ isRootEnding: () => false, isRevoked: () => false, isUnnamed: () => false },
    sign: () => Promise.reject(new Error("it does not issue")),
    nameAuthority() {},
    nameSelf() {},
    onRenewed() {},
    ...parts,
  });
}

/** How often a node looks for an issuing node in a minute in which there is none. */
async function looksInAMinute(intermediate: {
  readonly endsIn: number;
  readonly isRevoked?: boolean;
}): Promise<number> {
  const clock = new ManualClock();
  const end = clock.now() + intermediate.endsIn;
  let looks = 0;
  const nodes = () => {
    looks += 1;
    return [];
  };
  const isRevoked = () => intermediate.isRevoked === true;
  const validity = () => ({ notBefore: end - 365 * DAY, notAfter: end });
  const renewer = makeRenewer(clock, { nodes }, { isRevoked, validity });
  const stop = new AbortController();
  const running = renewer.run(stop.signal);
  await clock.advance(0);
  await clock.advance(61_000);
  stop.abort();
  await running;
  // Twice a time: for who issues, and for how many there are.
  return looks / 2;
}

test("Renewer.run() asks again within seconds while nobody takes what this node signs, and leaves time where the intermediate is still good", async () => {
  expect(await looksInAMinute({ endsIn: -DAY })).toBe(7);
  expect(await looksInAMinute({ endsIn: DAY * 300, isRevoked: true })).toBe(7);
  expect(await looksInAMinute({ endsIn: DAY })).toBe(1);
});

test("Renewer.run() asks for another intermediate once the roster has not named this one for half a minute, and then not before ten minutes", async () => {
  const clock = new ManualClock();
  const roster = { isNamed: true };
  const issuer = { name: "gate-1", state: "active", isIssuer: true };
  const renewer = makeRenewer(clock, { nodes: () => [issuer] as never }, { isUnnamed: () => !roster.isNamed });
  const stop = new AbortController();
  const running = renewer.run(stop.signal);
  const asked = async (ms: number) => {
    const before = renewer.counters.failed;
    for (let passed = 0; passed < ms; passed += 1000) await clock.advance(1000);
    return renewer.counters.failed - before;
  };
  expect(await asked(1_200_000)).toBe(0);
  // Its entry is changed: the daemon wakes the loop.
  roster.isNamed = false;
  renewer.soon();
  expect(await asked(25_000)).toBe(0);
  expect(await asked(20_000)).toBe(1);
  expect(await asked(540_000)).toBe(0);
  expect(await asked(90_000)).toBe(1);
  // A word that is only on its way is waited for.
  roster.isNamed = true;
  expect(await asked(60_000)).toBe(0);
  roster.isNamed = false;
  renewer.soon();
  expect(await asked(20_000)).toBe(0);
  roster.isNamed = true;
  expect(await asked(1_200_000)).toBe(0);
  stop.abort();
  await running;
});

test("Renewer.lookNow() has an issuing node named by its own word, and nobody asked", async () => {
  const clock = new ManualClock();
  const roster = { isNamed: false, said: 0 };
  const nameSelf = () => {
    roster.isNamed = true;
    roster.said += 1;
  };
  const ask = () => Promise.reject(new Error("nobody is asked"));
  const self = { ...ADA, isIssuer: true };
  const renewer = makeRenewer(clock, { self, ask }, { isUnnamed: () => !roster.isNamed, nameSelf });
  expect([await renewer.lookNow(), await renewer.lookNow()]).toEqual([false, false]);
  expect([roster.said, renewer.counters.failed]).toEqual([1, 0]);
});

/** A document for the issuing node, and how it is answered. */
function issuing() {
  const clock = new ManualClock();
  const counted = { signed: 0, fails: false };
  const members = ["gate-1", "gate-2", "gate-3"].map((name) => ({
    name,
    state: "active",
    isIssuer: name === "gate-1",
  }));
  const sign: RenewerParts["sign"] = (request) => {
    if (counted.fails) return Promise.reject(new Error("the disk is full"));
    counted.signed += 1;
    const some = [Uint8Array.of(1)];
    const { trustDomain, nodeName, createdAt: issuedAt, expiresAt, signature } = request;
    return Promise.resolve({
      ...{ trustDomain, nodeName, idPrefixes: ["spiffe://town.example/"], issuedAt, expiresAt },
      ...{ chain: some, roots: some, signature },
    });
  };
  const fleet = {
    self: members[0] as never,
    nodes: () => members as never,
    journal: { record() {}, events: () => [] },
  };
  const renewer = makeRenewer(clock, fleet, { sign });
  const ask = async (nodeName: string) => {
    const [csr, signature] = [Uint8Array.of(1), Uint8Array.of(2)];
    const dates = { createdAt: clock.now(), expiresAt: clock.now() + DAY };
    const text = encodeEnrolmentRequest({ trustDomain: "town.example", nodeName, ...dates, csr, signature });
    const said = { node: nodeName, type: "renew", payload: new TextEncoder().encode(text) } as Said;
    return (await renewer.answer(said))?.type;
  };
  return { clock, counted, ask };
}

test("Renewer.answer() signs a few for a node within minutes and no more, and for others as before", async () => {
  const { clock, counted, ask } = issuing();
  const all = await Promise.all(Array.from({ length: 50 }, () => ask("gate-2")));
  expect(all.filter((type) => type === "renewed").length).toBe(3);
  expect(counted.signed).toBe(3);
  expect(await ask("gate-3")).toBe("renewed");
  await clock.advance(180_000);
  expect(await ask("gate-2")).toBe("renewed");
});

test("Renewer.answer() counts what it signed, not what it could not sign", async () => {
  const { counted, ask } = issuing();
  counted.fails = true;
  for (let i = 0; i < 5; i++) expect(await ask("gate-2")).toBe("refused");
  counted.fails = false;
  expect(await ask("gate-2")).toBe("renewed");
});
