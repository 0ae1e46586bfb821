// A daemon in a temporary folder over a fake kernel and a clock of the test's own.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Authorities, initTrustDomain, openAuthorities, openAuthority } from "../../src/ca.ts";
import { type DaemonConfig, parseConfig } from "../../src/daemon/config.ts";
import type { OpenDevice } from "../../src/daemon/device.ts";
import type { ResolveName } from "../../src/daemon/name.ts";
import { type Daemon, startDaemon } from "../../src/daemon.ts";
import { RiprapError } from "../../src/error.ts";
import { SpiffeId } from "../../src/spiffe_id.ts";
import { openStore, storePath } from "../../src/store.ts";
import { ManualClock } from "../manual_clock.ts";
import { FakeKernel } from "./fake_kernel.ts";

export const CURL_RULES = `
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: curl }
spec:
  workloadID: curl
  selectors:
    - process:exe: /usr/bin/curl
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: curl }
spec:
  workloads: [spiffe://edge.test/curl]
  mode: enforce
  egress:
    - to: [{ address: 10.0.0.0/8 }]
      ports: [80]
`;

export const TEMPLATE_RULES = `
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: agent }
spec:
  workloadID: agent/[process:arg[1]]
  selectors:
    - process:name: agent
`;

export interface LogLine {
  readonly level: string;
  readonly event: string;
}

export interface House {
  readonly folder: string;
  readonly config: DaemonConfig;
  readonly kernel: FakeKernel;
  readonly clock: ManualClock;
  readonly log: LogLine[];
  /** What was logged at one level. */
  events(level: string): string[];
  start(options?: {
    openDevice?: OpenDevice;
    resolve?: ResolveName;
    config?: Partial<DaemonConfig>;
    watch?: boolean;
  }): Promise<Daemon>;
  writeRules(name: string, text: string): void;
  /** As the command does it, beside the daemon. */
  revokeBeside(serial: string): void;
  revokeIdBeside(spiffeId: string): void;
  /** What the command does with --state-dir. */
  besides(work: (authorities: Authorities) => unknown): Promise<void>;
  /** Serial numbers in the CA's list of revocations. */
  revoked(): string[];
  leave(): Promise<void>;
}

export async function buildHouse(trustDomain = "edge.test"): Promise<House> {
  const folder = mkdtempSync(join(tmpdir(), "riprap-daemon-"));
  const stateDir = join(folder, "state");
  const rulesDir = join(folder, "rules.d");
  const clock = new ManualClock();
  mkdirSync(rulesDir);
  mkdirSync(stateDir, { mode: 0o700 });
  await initTrustDomain({ stateDir, trustDomain, nodeName: "node-a", clock });
  const base = parseConfig(
    `stateDir: ${stateDir}\nrulesDir: ${rulesDir}\ncontrolSocket: ${join(folder, "control.sock")}\nlogLevel: debug\nworkloadApi: false\n`,
  );
  const kernel = new FakeKernel();
  const log: LogLine[] = [];
  const running: Daemon[] = [];
  return {
    folder,
    config: base,
    kernel,
    clock,
    log,
    events: (level) => log.filter((line) => line.level === level).map(({ event }) => event),
    async start({
      openDevice = kernel.open,
      resolve = async () => [{ address: "10.1.1.1", ttlMs: 30_000 }],
      config = {},
      watch = false,
    } = {}) {
      const daemon = await startDaemon(
        { ...base, ...config },
        {
          clock,
          openDevice,
          resolve,
          random: () => 0.5,
          watch,
          environment: {},
          writeLog: (line) => void log.push(JSON.parse(line)),
        },
      );
      running.push(daemon);
      await settle();
      return daemon;
    },
    writeRules: (name, text) => writeFileSync(join(rulesDir, name), text),
    revokeBeside(serial) {
      const store = openStore(storePath(stateDir));
      openAuthority({ stateDir, clock, store }).revoke(serial, "a test says so");
      store.close();
    },
    revokeIdBeside(spiffeId) {
      const store = openStore(storePath(stateDir));
      openAuthority({ stateDir, clock, store }).revokeId(SpiffeId.parse(spiffeId), "a test says so");
      store.close();
    },
    async besides(work) {
      const store = openStore(storePath(stateDir));
      await work(openAuthorities({ stateDir, clock, store }));
      store.close();
    },
    revoked() {
      const store = openStore(storePath(stateDir));
      const rows = store.prepare<{ serial: Uint8Array }>("SELECT serial FROM ca_revocation").all();
      store.close();
      return rows.map(({ serial }) => Buffer.from(serial).toString("hex"));
    },
    async leave() {
      for (const daemon of running) await daemon.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Lets everything that is ready run: promises, and reads of files in the thread pool. */
export async function settle(turns = 20): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Looks again and again until `holds`; a test that hangs here fails by its own timeout. */
export async function eventually(holds: () => boolean): Promise<void> {
  do {
    await new Promise<void>((resolve) => setTimeout(resolve, 2));
  } while (!holds());
}

/** The code of the refusal, or "none". */
export function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (thrown: unknown) => (thrown instanceof RiprapError ? thrown.code : String(thrown)),
  );
}
