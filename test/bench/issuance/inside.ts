// What one process does without a socket, for the issuance bench: bare signatures, serial jose, the CA, and ten thousand identities renewed at once. Prints one line of JSON.

import { heapStats } from "bun:jsc";
import { createECDH, createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { initTrustDomain, issueWithNewKeys, openAuthority, openJwtAuthority, trustBundle } from "../../../src/ca.ts";
import { systemClock } from "../../../src/clock.ts";
import { evidenceOfProc } from "../../../src/daemon/attestation/evidence.ts";
import { createLog } from "../../../src/daemon/log.ts";
import type { Caller } from "../../../src/daemon/workload_api/caller.ts";
import { X509Feed } from "../../../src/daemon/workload_api/feed.ts";
import type { Identified } from "../../../src/daemon/workload_api/identity.ts";
import { SvidIssuer } from "../../../src/daemon/workload_api/issuer.ts";
import { Ledger } from "../../../src/daemon/workload_api/ledger.ts";
import { LiveStreams } from "../../../src/daemon/workload_api/live.ts";
import { RootBook } from "../../../src/daemon/workload_api/root_book.ts";
import { SpiffeId } from "../../../src/spiffe_id.ts";
import { openStore, storePath } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { median } from "../table.ts";

const [, , secondsText = "1", identitiesText = "10000"] = process.argv;
const SECONDS = Number(secondsText);
const IDENTITIES = Number(identitiesText);
const BATCH = 64;
const CALLS_EACH = 8;
const HALF_LIFE_MS = 1_800_000;
const LAST_LOOK_MS = 1000;
const WARM_UP_MS = 1000;
const SLICE_MS = 100;

const folder = mkdtempSync(join(tmpdir(), "riprap-bench-"));
const stateDir = join(folder, "state");
mkdirSync(stateDir, { mode: 0o700 });
const clock = new ManualClock(Date.now());
await initTrustDomain({ stateDir, trustDomain: "example.org", nodeName: "bench", clock });
const store = openStore(storePath(stateDir));
const authority = openAuthority({ stateDir, clock, store });
const random = () => 0.5;
// Serials hold the time of day, by which the journal is in order: a clock that stands still would be another journal.
const timely = openAuthority({ stateDir, clock: systemClock, store });
const jwt = openJwtAuthority({ stateDir, clock: systemClock, store, authority: timely });

type Work = () => number | Promise<number>;

/**
 * How often each is done in a second of a core, and under NAMEByClock in one of the clock's, as the median of short slices in turn: what else the
 * machine does meets all alike. Each says how many it did at once. A runtime that compiles as it goes is let do that first.
 */
async function rates(works: Readonly<Record<string, Work>>): Promise<Record<string, number>> {
  const slices: Record<string, number[]> = {};
  for (const work of Object.values(works))
    for (const end = performance.now() + WARM_UP_MS; performance.now() < end; ) await work();
  for (let round = 0; round < (1000 * SECONDS) / SLICE_MS; round++)
    for (const [name, work] of Object.entries(works)) {
      const { ofCore, ofClock } = await rate(work);
      slices[name] ??= [];
      slices[name].push(ofCore);
      slices[`${name}ByClock`] ??= [];
      slices[`${name}ByClock`]?.push(ofClock);
    }
  return Object.fromEntries(Object.entries(slices).map(([name, values]) => [name, median(values)]));
}

async function rate(work: Work): Promise<{ ofCore: number; ofClock: number }> {
  let count = 0;
  const before = process.cpuUsage();
  const begun = performance.now();
  for (const end = begun + SLICE_MS; performance.now() < end; ) count += await work();
  const { user, system } = process.cpuUsage(before);
  return { ofCore: (1e6 * count) / (user + system), ofClock: (1000 * count) / (performance.now() - begun) };
}

const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
const key = createPrivateKey(pair.privateKey.export({ format: "pem", type: "pkcs8" }));
const tbs = new Uint8Array(430).fill(7);
const spiffeId = SpiffeId.parse("spiffe://example.org/bench/app");
const context = {
  by: "bench",
  pid: 1,
  exe: "/usr/bin/app",
  uid: 0,
  rule: "WorkloadIdentity/app",
  because: ["process:exe is /usr/bin/app"],
};
const { x, y } = pair.publicKey.export({ format: "jwk" });
const point = Buffer.concat([Buffer.of(4), Buffer.from(x ?? "", "base64url"), Buffer.from(y ?? "", "base64url")]);
const request = { spiffeId, publicKey: point, lifetimeSeconds: 3600, context };
/** Of as many workloads. */
const ids = Array.from({ length: BATCH }, (_, index) => SpiffeId.parse(`${spiffeId}/${index}`));
const batch = ids.map((id) => ({ ...request, spiffeId: id }));

const claims = { sub: spiffeId.toString(), aud: ["peer"] };
const jwtRequest = { spiffeId, audience: ["peer"], context };

const figures = await rates({
  rawSign() {
    for (let count = 0; count < 100; count++) sign("sha256", tbs, key);
    return 100;
  },
  rawKeyAndSign() {
    for (let count = 0; count < 100; count++) {
      createECDH("prime256v1").generateKeys();
      sign("sha256", tbs, key);
    }
    return 100;
  },
  caSingle() {
    timely.issueX509Svid(request);
    return 1;
  },
  caBatch: () => timely.issueX509Svids(batch).length,
  caNewKeys: () => issueWithNewKeys(timely, batch).length,
  async joseSerial() {
    const now = Math.floor(clock.now() / 1000);
    await new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", kid: "k", typ: "JWT" })
      .setIssuedAt(now)
      .setExpirationTime(now + 300)
      .sign(key);
    return 1;
  },
  async jwtSerial() {
    await jwt.issue(jwtRequest);
    return 1;
  },
  async jwtConcurrent() {
    await Promise.all(ids.map((id) => jwt.issue({ ...jwtRequest, spiffeId: id })));
    return BATCH;
  },
  /** As many callers, each of which asks again when it is answered. */
  async jwtCallers() {
    const call = async (id: SpiffeId) => {
      for (let count = 0; count < CALLS_EACH; count++) await jwt.issue({ ...jwtRequest, spiffeId: id });
    };
    await Promise.all(ids.map(call));
    return CALLS_EACH * BATCH;
  },
});

Object.assign(figures, await renewals());
authority.close();
timely.close();
store.close();
rmSync(folder, { recursive: true });
process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exit(0);

/** Streams of as many processes, each with an identity of its own, that all come to half of their life in one moment. */
async function renewals(): Promise<Record<string, number>> {
  const log = createLog({ level: "error", clock, write: (line) => void process.stderr.write(line) });
  const ledger = new Ledger({ store, authority, clock, log, isRunning: () => true });
  const issuer = new SvidIssuer({ authority, store, ledger });
  const evidence = evidenceOfProc(process.pid);
  const bundle = trustBundle(store, authority, jwt);
  const source = { bundle: () => bundle, foreignBundles: () => [] };
  const parts = { ...source, authority, issuer, ledger, clock, random, roots: new RootBook(source) };
  const tryIdentify = ({ pid }: Caller): Identified => ({
    evidence,
    assignment: {
      spiffeId: SpiffeId.parse(`spiffe://example.org/bench/${pid}`),
      ...{ rule: "WorkloadIdentity/app", because: context.because, lifetimeSeconds: 3600, dnsNames: [] },
      delivery: "workload-api",
    },
  });
  const live = new LiveStreams({
    ...{ clock, log, ledger, store, tryIdentify },
    identify: async (caller) => tryIdentify(caller),
  });
  let sent = 0;
  let failed = 0;
  const before = memory();
  const ended = new AbortController();
  // What stands for a connection is shared as far as it goes: it is the daemon's own that is weighed.
  const every = {
    transport: "unix",
    uid: 0,
    startTimeNs: 1n,
    isAlive: () => true,
    evidence: () => evidence,
    close() {},
  } as const;
  const outbound = {
    metadata: () => [],
    signal: ended.signal,
    send() {
      sent += 1;
    },
    end() {
      failed += 1;
    },
  };
  const open = async (pid: number) => {
    const caller: Caller = { ...every, pid };
    const call = { ...outbound, caller };
    await live.open(call, new X509Feed(parts));
  };
  await Promise.all(Array.from({ length: IDENTITIES }, (_, index) => open(index + 1)));
  const after = memory();
  const first = sent;
  const stopping = new AbortController();
  const loop = live.run(stopping.signal);
  // Its callers are looked at again all the while: those looks are not the renewals.
  await clock.advance(HALF_LIFE_MS - LAST_LOOK_MS);
  const early = sent - first;
  const begun = performance.now();
  await clock.advance(LAST_LOOK_MS);
  while (sent < first + IDENTITIES && failed === 0 && performance.now() - begun < 60_000) await Bun.sleep(1);
  const seconds = (performance.now() - begun) / 1000;
  stopping.abort();
  await loop;
  if (early > 0) throw new Error(`${early} were renewed before half of their life was over`);
  return {
    renewed: sent - first,
    renewalsFailed: failed,
    renewalSeconds: seconds,
    bytesPerIdentity: (after - before) / IDENTITIES,
  };
}

/** Bytes of what is alive: pages that the runtime keeps for later are nobody's. */
function memory(): number {
  Bun.gc(true);
  Bun.gc(true);
  const { heapSize, extraMemorySize } = heapStats();
  return heapSize + extraMemorySize;
}
