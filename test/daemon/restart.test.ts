// The daemon goes and comes back, the module goes and comes back, and the device sends what it should not.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { CUT_BY, FLOW_STATE, REASON } from "../../src/abi.ts";
import { RiprapError } from "../../src/error.ts";
import { sampleBody, sampleFrame, seeded } from "../abi/sample.ts";
import { buildHouse, CURL_RULES, eventually, type House, settle } from "./house.ts";

let house: House;
beforeEach(async () => {
  house = await buildHouse();
  house.writeRules("curl.yaml", CURL_RULES);
});
afterEach(async () => {
  await house.leave();
});

test("restore() keeps an SVID when the daemon comes back and nothing has changed", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  const serial = first.processes({ all: false })[0]?.svid?.serial;
  await first.stop();
  expect(house.kernel.isOpen).toBe(false);
  const second = await house.start();
  await settle();
  expect(second.processes({ all: false })[0]).toMatchObject({
    state: "ready",
    svid: { serial },
    rule: "WorkloadIdentity/curl",
  });
  expect(house.kernel.ofType("svid").length).toBe(1);
  expect(house.kernel.ofType("assign").length).toBe(1);
  await house.clock.advance(1_801_000);
  await settle();
  expect(house.kernel.ofType("svid").length).toBe(2);
  expect(process.state).toBe("ready");
  expect(house.revoked()).toEqual([]);
});

test("restore() revokes an SVID when its process ended while no daemon was there", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  const serial = first.processes({ all: false })[0]?.svid?.serial ?? "";
  await first.stop();
  house.kernel.exit(process);
  await house.start();
  expect(house.revoked()).toEqual([serial]);
});

test("restore() asks for a new key when the module holds an SVID that the journal does not know", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  await first.stop();
  if (process.svid !== undefined) process.svid = { ...process.svid, notAfter: process.svid.notAfter - 5n };
  await house.start();
  await settle();
  expect(house.kernel.ofType("renew").length).toBe(1);
  expect(house.kernel.ofType("svid").length).toBe(2);
});

test("restore() asks for a new key when the SVID was revoked while no daemon was there", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  const serial = first.processes({ all: false })[0]?.svid?.serial ?? "";
  await first.stop();
  house.revokeBeside(serial);
  await house.start();
  await eventually(() => house.kernel.ofType("svid").length === 2);
  expect(process.state).toBe("ready");
});

/** Who has an SVID of this node is accepted as a peer; its serial number. */
async function acceptPeer(): Promise<string> {
  const daemon = await house.start();
  const process = house.kernel.exec();
  await settle();
  const chain = process.svid?.chain ?? [];
  house.kernel.send("verify", { ask: 1n, flow: 1n, instance: 9n, trustGeneration: 1n, peerIsServer: 1, chain });
  await settle();
  const serial = daemon.processes({ all: false })[0]?.svid?.serial ?? "";
  await daemon.stop();
  return serial;
}

const cutIds = () =>
  house.kernel
    .ofType("cut")
    .filter(({ by, reason }) => by === CUT_BY.peerId && reason === REASON.revoked)
    .map(({ id }) => id);
const flowOf = (peerId: string, flow = 1n) => ({
  ...sampleBody("flow"),
  ...{ flow, peerId, state: FLOW_STATE.open, error: 0, alert: 0, openedNs: 1_700_000_000_000_000_000n },
});

test("PeerBook cuts off whom an earlier daemon accepted when the SVID was revoked while no daemon was there, and once", async () => {
  const serial = await acceptPeer();
  house.revokeBeside(serial);
  const before = house.kernel.trustGeneration;
  const daemon = await house.start();
  await eventually(() => cutIds().length === 1);
  expect(cutIds()).toEqual(["spiffe://edge.test/curl"]);
  const order = house.kernel.received.map(({ type, body }) => (type === "cut" ? `cut ${body.by}` : type));
  expect(order.lastIndexOf("trust")).toBeLessThan(order.indexOf(`cut ${CUT_BY.peerId}`));
  expect(house.kernel.trustGeneration).toBe(before + 1n);
  await daemon.stop();
  await house.start();
  await settle();
  expect([cutIds().length, house.kernel.trustGeneration]).toEqual([1, before + 1n]);
});

test("PeerBook cuts off whom an earlier daemon accepted when the SVID is revoked after the restart", async () => {
  const serial = await acceptPeer();
  await house.start();
  await settle();
  expect(cutIds()).toEqual([]);
  house.revokeBeside(serial);
  await house.clock.advance(1500);
  await eventually(() => cutIds().length === 1);
});

test("PeerBook cuts off at the next start whom the module did not", async () => {
  const serial = await acceptPeer();
  house.revokeBeside(serial);
  house.kernel.refusals.set("cut", 12);
  const daemon = await house.start();
  await eventually(() => house.events("error").includes("revoked peers were not cut off"));
  await daemon.stop();
  await house.start();
  await eventually(() => cutIds().length === 2);
});

test("EnforcementPlane cuts off at its start who is of a trust domain of which no bundle is held any more", async () => {
  house.kernel.liveFlows = [flowOf("spiffe://gone.test/web"), flowOf("spiffe://edge.test/web", 2n)];
  await house.start();
  await eventually(() => cutIds().length > 0);
  expect(cutIds()).toEqual(["spiffe://gone.test/web"]);
});

test("EnforcementPlane cuts off of whom nobody remembers what he rests on when something is revoked, and nobody before", async () => {
  await acceptPeer();
  house.kernel.liveFlows = [flowOf("spiffe://edge.test/curl"), flowOf("spiffe://edge.test/forgotten", 2n)];
  await house.start();
  await settle();
  expect(cutIds()).toEqual([]);
  house.revokeBeside("41aa");
  await house.clock.advance(1500);
  await eventually(() => cutIds().length > 0);
  expect(cutIds()).toEqual(["spiffe://edge.test/forgotten"]);
});

test("restore() keeps subject numbers when other identities came first", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  await first.stop();
  process.subject = 77;
  house.writeRules(
    "a.yaml",
    CURL_RULES.replaceAll("name: curl", "name: a")
      .replaceAll("/curl", "/a")
      .replace("workloadID: curl", "workloadID: a"),
  );
  await house.start();
  const other = house.kernel.exec({ exe: "/usr/bin/a" });
  await settle();
  expect(other.subject).not.toBe(77);
  expect(other.state).toBe("ready");
  expect(house.kernel.ofType("assign").map(({ spiffeId }) => spiffeId)).toEqual([
    "spiffe://edge.test/curl",
    "spiffe://edge.test/a",
  ]);
});

test("restore() takes a process's identity away when the rules changed while no daemon was there", async () => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  await first.stop();
  house.writeRules("curl.yaml", CURL_RULES.replace("process:exe: /usr/bin/curl", "process:exe: /usr/bin/other"));
  await house.start();
  await settle();
  expect(process.state).toBe("unmanaged");
  expect(house.revoked().length).toBe(1);
});

test.each([
  ["half written", "kind: [", "curl.yaml"],
  ["empty", "", "it is empty"],
])("RuleKeeper starts with the last good rules when those on disk are %s by then", async (_, text, says) => {
  const first = await house.start();
  const process = house.kernel.exec();
  await settle();
  await first.stop();
  house.writeRules("curl.yaml", text);
  const second = await house.start();
  const another = house.kernel.exec();
  await settle();
  expect([process.state, another.state]).toEqual(["ready", "ready"]);
  const { rules, ready } = second.status();
  expect(rules.desired).toBeGreaterThan(rules.applied);
  expect(rules.error).toContain("curl.yaml");
  expect(rules.error).toContain(says);
  expect(ready).toBe(false);
});

test("RuleBook numbers generations above the module's and its own when it starts again", async () => {
  house.kernel.tableGeneration = 500n;
  const first = await house.start();
  expect(house.kernel.tableGeneration).toBe(501n);
  await first.stop();
  house.kernel.tableGeneration = 0n;
  await house.start();
  expect(house.kernel.tableGeneration).toBeGreaterThan(501n);
});

test("TrustKeeper sends its generation once when the module has it already", async () => {
  const first = await house.start();
  await settle();
  await first.stop();
  await house.start();
  await settle();
  expect(house.kernel.ofType("trust").length).toBe(1);
});

test("KernelLink serves the module again when it was loaded anew", async () => {
  const daemon = await house.start();
  const process = house.kernel.exec();
  await settle();
  const serial = daemon.processes({ all: false })[0]?.svid?.serial ?? "";
  house.kernel.reload();
  await settle();
  expect(daemon.status()).toMatchObject({ plane: "identity", ready: true });
  expect(daemon.status().planeReason).toContain("ENODEV");
  await house.clock.advance(1000);
  await settle();
  expect(daemon.status()).toMatchObject({ plane: "kernel", ready: true });
  expect(house.revoked()).toEqual([serial]);
  const fresh = house.kernel.exec({ instance: process.facts.instance });
  await settle();
  expect(fresh.state).toBe("ready");
});

test("RuleKeeper puts rules in force after all when the module went while they were handed over", async () => {
  const daemon = await house.start({ watch: true });
  house.kernel.answers = false;
  house.writeRules("curl.yaml", CURL_RULES.replace("mode: enforce", "mode: observe"));
  while (house.kernel.ofType("tableCommit").length < 2) {
    await eventually(() => true);
    await house.clock.advance(200);
  }
  house.kernel.answers = true;
  house.kernel.reload();
  await settle();
  expect(daemon.status().rules.error).toContain("device");
  await house.clock.advance(10_000);
  await settle();
  expect(daemon.status()).toMatchObject({ plane: "kernel", ready: true });
  expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "192.0.2.1:80" })).mode).toBe("observe");
});

test("KernelLink opens the device again when a frame is malformed, foreign or out of order", async () => {
  const daemon = await house.start();
  const process = house.kernel.exec();
  await settle();
  const random = seeded(7);
  const noise = Uint8Array.from({ length: 200 }, () => random(256));
  for (const bytes of [noise, sampleFrame("flow").subarray(0, 60), sampleFrame("flow", 99_999n)]) {
    house.kernel.sendRaw(bytes);
    await settle();
    expect(daemon.status().plane).toBe("identity");
    await house.clock.advance(10_000);
    await settle();
    expect(daemon.status().plane).toBe("kernel");
  }
  expect(house.events("error").filter((event) => event === "the device was lost").length).toBe(3);
  expect(process.state).toBe("ready");
  expect(house.revoked()).toEqual([]);
});

test("EnforcementPlane goes on when the module sends a frame of the daemon's own kind or an unknown key", async () => {
  const daemon = await house.start();
  house.kernel.send("renew", { instance: 1n });
  house.kernel.send("key", { ...sampleBody("key"), instance: 99n });
  house.kernel.send("processExit", { instance: 98n, exitCode: 0 });
  const process = house.kernel.exec();
  await settle();
  expect(process.state).toBe("ready");
  expect(daemon.status().plane).toBe("kernel");
});

test("startDaemon() refuses when another daemon holds the device", async () => {
  await house.start();
  const { controlSocket } = house.config;
  await expect(house.start({ config: { controlSocket: `${controlSocket}2` } })).rejects.toThrow(
    "another daemon holds it",
  );
});

test("startDaemon() runs the identity plane and says so when there is no module", async () => {
  const openDevice = () => {
    throw new RiprapError(
      "ENOENT",
      "Cannot open /dev/riprap: the kernel module is not loaded; load it with `riprap kernel load`",
    );
  };
  const daemon = await house.start({ openDevice });
  const status = daemon.status();
  expect(status).toMatchObject({ plane: "identity", ready: true, processes: { live: 0, identified: 0 } });
  expect(status.planeReason).toContain("riprap kernel load");
  expect(status.warnings[0]).toContain("Nothing is enforced");
  expect((await daemon.attest(process.pid)).pid).toBe(process.pid);
  await expect(daemon.drain(true)).rejects.toThrow("no kernel module");
  await daemon.stop();
  await expect(house.start({ openDevice, config: { requireKernel: true } })).rejects.toThrow("requireKernel");
});

test("waitReady() resolves when the module comes, and rejects when the signal does", async () => {
  let isThere = false;
  const openDevice = (path: string) => {
    if (isThere) return house.kernel.open();
    throw new RiprapError("ENOENT", `Cannot open ${path}`);
  };
  const daemon = await house.start({ openDevice });
  await daemon.waitReady(AbortSignal.timeout(1000));
  isThere = true;
  await house.clock.advance(20_000);
  await settle();
  expect(daemon.status()).toMatchObject({ plane: "kernel", ready: true });
  house.writeRules("curl.yaml", "kind: [");
});
