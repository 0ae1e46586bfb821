// Two trust domains on one real NATS server, each in an account of its own with the configuration that its fleet prints: one learns the other's bundle, pinned by a person.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AuthorityList, initTrustDomain, openNodeKeys } from "../../src/ca.ts";
import { controlClient } from "../../src/cli/client.ts";
import { systemClock } from "../../src/clock.ts";
import { parseConfig } from "../../src/daemon/config.ts";
import type { DomainView } from "../../src/daemon/control/bundle.ts";
import { openNkeySeed } from "../../src/daemon/fleet/member.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { openNats } from "../../src/federation/nats.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { SpiffeId, TrustDomain } from "../../src/spiffe_id.ts";
import { parseTrustBundle } from "../../src/trust_bundle.ts";
import { beside, WORKLOAD_KEY } from "./beside.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const PATIENCE_MS = 20_000;
const OURS = "ours.example";
const PARTNER = "partner.example";
const SUBJECT = fleetSubjects(PARTNER).bundle;

const folder = mkdtempSync(join(tmpdir(), "riprap-foreign-"));
const daemons: Daemon[] = [];
let nats: NatsPark;
let server: NatsServer;

const placeOf = (trustDomain: string) => join(folder, trustDomain);
const stateDirOf = (trustDomain: string) => join(placeOf(trustDomain), "state");
const clientOf = (trustDomain: string) => controlClient(join(placeOf(trustDomain), "control.sock"));

async function start(trustDomain: string): Promise<void> {
  const place = placeOf(trustDomain);
  const stateDir = stateDirOf(trustDomain);
  mkdirSync(join(place, "rules"), { recursive: true });
  mkdirSync(stateDir, { mode: 0o700 });
  const rule = { apiVersion: "riprap.io/v1", kind: "TrustDomain", metadata: { name: "partner" } };
  const document = JSON.stringify({ ...rule, spec: { trustDomain: PARTNER } });
  if (trustDomain === OURS) writeFileSync(join(place, "rules", "partner.yaml"), document);
  await initTrustDomain({ stateDir, trustDomain, nodeName: "node-1", clock: systemClock });
  const lines = [
    `stateDir: ${stateDir}`,
    `rulesDir: ${join(place, "rules")}`,
    `controlSocket: ${join(place, "control.sock")}`,
    "workloadApi: false",
    "keyCustody: file",
    `natsServers: ${server.url}`,
    "",
  ];
  const openDevice = () => {
    throw new RiprapError("ENOENT", "there is no module here");
  };
  daemons.push(
    await startDaemon(parseConfig(lines.join("\n")), {
      ...{ watch: false, environment: {}, openDevice, writeLog: () => undefined },
    }),
  );
}

/** The first answer that satisfies. */
async function until<T>(what: string, look: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
  let answer = await look();
  for (const end = performance.now() + PATIENCE_MS; !holds(answer); answer = await look()) {
    if (performance.now() > end) throw new Error(`never came true: ${what}; ${JSON.stringify(answer)}`);
    await Bun.sleep(50);
  }
  return answer;
}

const partnerHere = async () =>
  (await clientOf(OURS).get<readonly DomainView[]>("/v1/bundles")).find(({ trustDomain }) => trustDomain === PARTNER);
const refusedFor = async (reason: string) => {
  const text = await clientOf(OURS).text("/metrics");
  return Number(new RegExp(`bundles_refused_total{reason="${reason}"} (\\d+)`).exec(text)?.[1]);
};
/** The partner's node has another key for tokens: it says its bundle at once. */
const change = () => clientOf(PARTNER).post("/v1/authorities/prepare", { query: { kind: "jwt" } });

beforeAll(async () => {
  if (NATS_SERVER === null) return;
  nats = openPark();
  server = await nats.single({ config: "accounts {}" });
  await Promise.all([start(OURS), start(PARTNER)]);
  const print = (domain: string, query: Record<string, string>) =>
    clientOf(domain).text("/v1/fleet/nats-config", { query: { account: "1", closed: "1", ...query } });
  const accounts = await Promise.all([print(OURS, { import: PARTNER }), print(PARTNER, {})]);
  await server.reload(`accounts {\n${accounts.join("\n")}\n}`);
  for (const domain of [OURS, PARTNER]) {
    const look = () => clientOf(domain).get<{ state: string }>("/v1/fleet/status");
    await until(`${domain} is connected`, look, ({ state }) => state === "connected");
  }
}, TEST_MS);

afterAll(async () => {
  for (const daemon of daemons) await daemon.stop();
  await nats?.leave();
  rmSync(folder, { recursive: true, force: true });
}, TEST_MS);

describe.skipIf(NATS_SERVER === null)("bundles of other trust domains over NATS (skipped without nats-server)", () => {
  test(
    "Courier takes nothing of a partner before a person has pinned his root, and his bundle after that",
    async () => {
      await change();
      const unpinned = await until("it was refused", partnerHere, (view) => view?.fault !== undefined);
      expect(unpinned?.fault).toContain("riprap bundle pin partner.example");
      expect(unpinned?.bundle).toBeUndefined();
      expect(await refusedFor("unpinned")).toBeGreaterThan(0);
      const { authorities } = await clientOf(PARTNER).get<AuthorityList>("/v1/authorities");
      const root = authorities.find(({ kind }) => kind === "x509")?.id ?? "";
      const query = { fingerprint: root };
      await clientOf(OURS).post(`/v1/bundles/${PARTNER}/pin`, { query });
      // The next token key comes of itself only now and then: another root is a change too.
      await clientOf(PARTNER).post("/v1/authorities/prepare", { query: { kind: "x509" } });
      const taken = await until("it was taken", partnerHere, (view) => view?.bundle !== undefined);
      expect(taken).toMatchObject({ pin: root, bundle: { source: "fleet", x509: 2 } });
      expect(taken?.fault).toBeUndefined();
    },
    TEST_MS,
  );

  test(
    "Courier lets the partner's workloads be known by what the broker brought",
    async () => {
      const document = await clientOf(OURS).text(`/v1/bundles/${PARTNER}`, { query: { format: "spiffe" } });
      const bundle = parseTrustBundle(document, TrustDomain.parse(PARTNER));
      const spiffeId = SpiffeId.parse(`spiffe://${PARTNER}/shop`);
      const { chain } = beside(stateDirOf(PARTNER), (authority) =>
        authority.issueX509Svid({ spiffeId, publicKey: WORKLOAD_KEY, lifetimeSeconds: 60, context: {} }),
      );
      const answer = beside(stateDirOf(OURS), (authority) => authority.verifyPeerChain(chain, () => bundle));
      expect(answer).toMatchObject({ ok: true });
      expect(beside(stateDirOf(OURS), (authority) => authority.verifyPeerChain(chain))).toMatchObject({ ok: false });
    },
    TEST_MS,
  );

  test(
    "Courier refuses and counts what a hostile client in the partner's account repeats, alters and invents",
    async () => {
      const keys = openNodeKeys(stateDirOf(PARTNER));
      const seed = openNkeySeed(keys, () => new Uint8Array());
      const hostile = openNats({
        ...{ servers: [server.url], name: "hostile", clock: systemClock, random: Math.random },
        ...{ inboxPrefix: fleetSubjects(PARTNER).inbox("node-1"), proof: { kind: "nkey", seed } },
      });
      await new Promise<void>((resolve) => hostile.onState(({ phase }) => phase === "connected" && resolve()));
      const heard: Uint8Array[] = [];
      hostile.subscribe(SUBJECT, ({ data }) => void heard.push(Uint8Array.from(data)));
      await Bun.sleep(100);
      const { authorities } = await clientOf(PARTNER).get<AuthorityList>("/v1/authorities");
      const next = authorities.find(({ kind, phase }) => kind === "x509" && phase === "published");
      await clientOf(PARTNER).post("/v1/authorities/revoke", { query: { id: next?.id ?? "" } });
      await until("a genuine one was taken", partnerHere, (view) => view?.bundle?.x509 === 1);
      const before = await partnerHere();
      const [genuine = new Uint8Array()] = heard;
      const altered = Uint8Array.from(genuine);
      altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
      for (const data of [genuine, altered, genuine.subarray(0, 99), new Uint8Array(600_000), new Uint8Array(0)])
        hostile.publish(SUBJECT, data);
      await until(
        "all were counted",
        () => Promise.all(["replayed", "malformed", "too_large"].map(refusedFor)),
        ([replayed = 0, malformed = 0, large = 0]) => replayed > 1 && malformed > 1 && large > 0,
      );
      expect((await partnerHere())?.bundle).toEqual(before?.bundle);
      await hostile.close();
    },
    TEST_MS,
  );

  test(
    "natsConfig() lets the other account hear the bundle alone, and say nothing",
    async () => {
      const keys = openNodeKeys(stateDirOf(OURS));
      const ours = openNats({
        ...{ servers: [server.url], name: "ours", clock: systemClock, random: Math.random },
        ...{ inboxPrefix: fleetSubjects(OURS).inbox("node-1") },
        proof: { kind: "nkey", seed: openNkeySeed(keys, () => new Uint8Array()) },
      });
      await new Promise<void>((resolve) => ours.onState(({ phase }) => phase === "connected" && resolve()));
      const heard: string[] = [];
      ours.subscribe(`${fleetSubjects(PARTNER).prefix}.gossip.*`, ({ subject }) => void heard.push(subject));
      const count = async () => Number(/bundles_taken_total (\d+)/.exec(await clientOf(OURS).text("/metrics"))?.[1]);
      const before = await count();
      ours.publish(SUBJECT, new Uint8Array(10));
      const malformed = await refusedFor("malformed");
      await clientOf(PARTNER).post("/v1/fleet/revoke", {
        query: { target: "id:spiffe://partner.example/x", reason: "a test says so" },
      });
      await Bun.sleep(300);
      expect(heard).toEqual([]);
      expect([await count(), await refusedFor("malformed")]).toEqual([before, malformed]);
      await ours.close();
    },
    TEST_MS,
  );
});
