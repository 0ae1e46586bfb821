// What a crash, a full disk or a hand may leave of the files that a daemon starts with: each is either no loss, or a sentence with place and remedy.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initTrustDomain, openAuthority, openNodeStore, rebuildStore, signedSvids } from "../../src/ca.ts";
import { runCli } from "../../src/cli.ts";
import { systemClock } from "../../src/clock.ts";
import { loadConfig, parseConfig } from "../../src/daemon/config.ts";
import type { Finding } from "../../src/daemon/kernel/check.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { makeWorkloadKey } from "../ca/authority_fixture.ts";
import { fakeTerminal } from "../cli/fake_terminal.ts";
import { scratchDirectories } from "../scratch.ts";

const scratch = scratchDirectories();
const WORKLOAD = makeWorkloadKey();
/** Of a state directory as a daemon leaves it that was killed: with a log beside the database. */
let sound: string;

beforeAll(async () => {
  sound = mkdtempSync(join(tmpdir(), "riprap-sound-"));
  const from = join(sound, "from");
  mkdirSync(from, { mode: 0o700 });
  await initTrustDomain({ stateDir: from, trustDomain: "edge.test", nodeName: "a", clock: systemClock });
  const daemon = await start(from);
  sign(from, 40);
  cpSync(from, join(sound, "state"), { recursive: true });
  await daemon.stop();
});

afterAll(() => rmSync(sound, { recursive: true }));

function start(stateDir: string): Promise<Daemon> {
  const folder = scratch();
  const paths = { rulesDir: join(folder, "rules.d"), controlSocket: join(folder, "control.sock") };
  const config = parseConfig(JSON.stringify({ stateDir, ...paths, workloadApi: false }));
  const openDevice = () => {
    throw new RiprapError("ENOENT", "Cannot open /dev/riprap: ENOENT");
  };
  return startDaemon(config, { openDevice, environment: {}, writeLog: () => undefined });
}

/** Signs as the daemon does, and answers every serial number that the journal has. */
function sign(stateDir: string, count: number): readonly string[] {
  const store = openNodeStore(stateDir);
  const authority = openAuthority({ stateDir, clock: systemClock, store });
  const request = { spiffeId: "spiffe://edge.test/app", publicKey: WORKLOAD.point, lifetimeSeconds: 600, context: {} };
  for (let made = 0; made < count; made++) authority.issueX509Svid(request);
  const serials = signedSvids(store, { limit: 10_000, type: "x509" }).map(({ id }) => id);
  authority.close();
  store.close();
  return serials;
}

function copy(): string {
  const stateDir = join(scratch(), "state");
  cpSync(join(sound, "state"), stateDir, { recursive: true });
  return stateDir;
}

const BREAKS: Readonly<Record<string, (whole: Buffer) => Buffer | undefined>> = {
  "is gone": () => undefined,
  "is empty": () => Buffer.alloc(0),
  "is half written": (whole) => whole.subarray(0, whole.length >> 1),
  "is zeros": (whole) => Buffer.alloc(whole.length),
  "is zeros from its middle on": (whole) => Buffer.from(whole).fill(0, whole.length >> 1),
};

function breakFile(path: string, how: string): void {
  const broken = BREAKS[how]?.(readFileSync(path));
  if (broken === undefined) rmSync(path);
  else writeFileSync(path, broken);
}

/** What a start says of it; undefined: it starts. */
async function refusalOf(stateDir: string): Promise<RiprapError | undefined> {
  try {
    await (await start(stateDir)).stop();
    return undefined;
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(RiprapError);
    return thrown as RiprapError;
  }
}

/** Files without which a node is not what it was, and what a person may do about each. */
const NEEDED: Readonly<Record<string, readonly [code: RegExp, remedy: RegExp]>> = {
  "ca/node.key": [/^ca_key_invalid$/, /restore it from a copy, or give this node up/],
  "ca/node.pem": [/^ca_state_invalid$/, /restore it from a copy, or give this node up/],
  "ca/bundle.pem": [/^ca_state_invalid$/, /copy ca\/bundle.pem from another node/],
  "ca/node.json": [/^ca_(state_invalid|not_initialised)$/, /restore it from a copy|riprap init/],
  "ca/jwt.key": [/^ca_key_invalid$/, /remove it: the next start makes another/],
  "ca/fleet.key": [/^fleet_key_invalid$/, /restore it from a copy, or remove it/],
  "state.db": [/^store_(lost|damaged)$/, /restore the file from a copy; without one, `riprap authority rebuild`/],
};
/** Files that are made again, or are not wanted for a start. A seed that is half zeros is one like any other. */
const SPARED = new Set(["ca/jwt.key is gone", "ca/fleet.key is gone", "ca/fleet.key is zeros from its middle on"]);

describe("startDaemon", () => {
  const cases = Object.entries(NEEDED).flatMap(([file, says]) =>
    Object.keys(BREAKS).map((how) => [file, how, says] as const),
  );
  test.each(cases)(
    "startDaemon() starts, or says where and what to do, when %s %s",
    async (file, how, [code, remedy]) => {
      const stateDir = copy();
      for (const beside of file === "state.db" ? ["state.db-wal", "state.db-shm"] : []) rmSync(join(stateDir, beside));
      breakFile(join(stateDir, file), how);
      const refusal = await refusalOf(stateDir);
      if (SPARED.has(`${file} ${how}`)) return expect(refusal).toBeUndefined();
      expect(refusal?.code).toMatch(code);
      expect(refusal?.message).toMatch(remedy);
      expect(refusal?.message).toContain(file === "ca/jwt.key" || file === "ca/fleet.key" ? file : join(stateDir));
    },
  );

  test("startDaemon() starts wherever the database's log was cut off or was never written, and signs nothing twice", async () => {
    const whole = readFileSync(join(sound, "state/state.db-wal"));
    for (let part = 0; part < 8; part++) {
      for (const isZeros of [true, false]) {
        const stateDir = copy();
        const at = Math.floor((whole.length * part) / 8) + 13 * part;
        rmSync(join(stateDir, "state.db-shm"));
        const tail = isZeros ? Buffer.alloc(whole.length - at) : Buffer.alloc(0);
        writeFileSync(join(stateDir, "state.db-wal"), Buffer.concat([whole.subarray(0, at), tail]));
        expect(await refusalOf(stateDir)).toBeUndefined();
        const serials = sign(stateDir, 5);
        expect(new Set(serials).size).toBe(serials.length);
        expect(serials.length).toBeGreaterThanOrEqual(5);
      }
    }
  });

  test("startDaemon() says the same of a database that is damaged in its middle when it comes to that place", async () => {
    const stateDir = copy();
    const path = join(stateDir, "state.db");
    const database = new Database(path);
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    const page = database
      .query<{ rootpage: number }, []>("SELECT rootpage FROM sqlite_schema WHERE name = 'ca_key'")
      .get();
    database.close();
    const bytes = readFileSync(path);
    bytes.fill(0x55, 4096 * ((page?.rootpage ?? 1) - 1), 4096 * (page?.rootpage ?? 1));
    writeFileSync(path, bytes);
    expect(await refusalOf(stateDir)).toMatchObject({
      code: "store_damaged",
      message: expect.stringContaining(
        `Cannot use the database ${path}: it is damaged (database disk image is malformed); stop riprap and restore`,
      ),
    });
  });
});

describe("riprap doctor", () => {
  async function doctor(stateDir: string) {
    const terminal = fakeTerminal();
    const config = join(scratch(), "riprap.yaml");
    writeFileSync(config, `stateDir: ${stateDir}\ncontrolSocket: ${join(stateDir, "none.sock")}\n`);
    const status = await runCli(["doctor", "--json", "--config", config], terminal);
    const { findings } = JSON.parse(terminal.out.join("\n")) as { findings: Finding[] };
    return { status, found: findings.find(({ check }) => check === "database") };
  }

  test("doctor finds nothing wrong with a database that is whole, and leaves it as it is", async () => {
    const stateDir = copy();
    const before = sign(stateDir, 1);
    expect((await doctor(stateDir)).found).toMatchObject({ level: "ok" });
    expect(sign(stateDir, 0)).toEqual(before);
  });

  test.each(Object.keys(BREAKS))("doctor fails and names the remedy when the database %s", async (how) => {
    const stateDir = copy();
    for (const beside of ["state.db-wal", "state.db-shm"]) rmSync(join(stateDir, beside));
    const path = join(stateDir, "state.db");
    breakFile(path, how);
    const bytes = () => (existsSync(path) ? readFileSync(path, "base64") : undefined);
    const left = bytes();
    const { status, found } = await doctor(stateDir);
    expect([status, found?.level]).toEqual([1, "fail"]);
    expect(found?.fact).toStartWith(`Cannot use the database ${path}: it is `);
    expect(found?.fact).toContain("without one, `riprap authority rebuild`");
    expect(bytes()).toBe(left as string);
  });
});

describe("rebuildStore", () => {
  test.each(["is gone", "is empty", "is half written", "is zeros"])(
    "rebuildStore() has a node go on whose database %s, says what is lost, and keeps the old file",
    async (how) => {
      const stateDir = copy();
      const path = join(stateDir, "state.db");
      for (const beside of ["state.db-wal", "state.db-shm"]) rmSync(join(stateDir, beside));
      breakFile(path, how);
      const { putAside, lost } = rebuildStore({ stateDir, clock: systemClock });
      expect(putAside.length > 0).toBe(how !== "is gone");
      for (const file of putAside) expect(existsSync(file)).toBe(true);
      expect(lost.join("\n")).toContain("revoke it again");
      expect(readdirSync(stateDir).filter((name) => name.includes(".next"))).toEqual([]);
      const daemon = await start(stateDir);
      // No peer that has seen the bundle or the CRL of before takes the new ones for older.
      expect(daemon.status().ready).toBe(true);
      await daemon.stop();
      const store = openNodeStore(stateDir);
      const { sequence } = store.prepare<{ sequence: number }>("SELECT sequence FROM ca_bundle").get() ?? {
        sequence: 0,
      };
      expect(sequence).toBeGreaterThan(1_700_000_000);
      const authority = openAuthority({ stateDir, clock: systemClock, store });
      authority.crl();
      const { number } = store.prepare<{ number: number }>("SELECT max(number) AS number FROM ca_crl").get() ?? {
        number: 0,
      };
      expect(number).toBeGreaterThan(1_700_000_000);
      authority.close();
      store.close();
      expect(sign(stateDir, 1)).toHaveLength(1);
    },
  );

  test("rebuildStore() refuses while the database can be read, and leaves it as it is", () => {
    const stateDir = copy();
    const before = sign(stateDir, 1);
    expect(() => rebuildStore({ stateDir, clock: systemClock })).toThrow(
      "it can be read from its beginning to its end",
    );
    expect(sign(stateDir, 0)).toEqual(before);
  });

  test("rebuildStore() leaves the files as they are when those under ca/ are of no use either", () => {
    const stateDir = copy();
    rmSync(join(stateDir, "state.db"));
    rmSync(join(stateDir, "ca/bundle.pem"));
    expect(() => rebuildStore({ stateDir, clock: systemClock })).toThrow("bundle.pem");
    expect(existsSync(join(stateDir, "state.db"))).toBe(false);
  });
});

describe("loadConfig", () => {
  test.each(["is empty", "is half written", "is zeros", "is zeros from its middle on"])(
    "loadConfig() says where when the configuration %s",
    (how) => {
      const path = join(scratch(), "riprap.yaml");
      writeFileSync(path, "stateDir: /srv/riprap\nsvidLifetime: 1h\nlogLevel: debug\nworkloadApi: false\n");
      breakFile(path, how);
      expect(() => loadConfig(path)).toThrow(path);
    },
  );

  test("loadConfig() goes by what is not set when there is no file", () => {
    expect(loadConfig(join(scratch(), "riprap.yaml")).stateDir).toBe("/var/lib/riprap");
  });
});
