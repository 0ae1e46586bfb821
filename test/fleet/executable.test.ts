// A revoked executable: its processes lose their identity, in the module and at the Workload API, on the node that says it and on others, whatever is done to the file.

import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { hash } from "node:crypto";
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { controlClient } from "../../src/cli/client.ts";
import { readStat } from "../../src/daemon/attestation/proc.ts";
import { buildHouse, eventually, type House, settle } from "../daemon/house.ts";
import { Inbox, identityRule, openClient, statusOf } from "../daemon/workload_api/endpoint.ts";
import { openFleetPark, type Park, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

// A busy machine makes and verifies signatures slowly.
setDefaultTimeout(30_000);

const TEST_MS = 60_000;

const digestOf = (path: string) => hash("sha256", readFileSync(path), "hex");

describe("a process under the module", () => {
  let house: House;
  let folder: string;
  let program: string;
  let running: Bun.Subprocess;

  beforeEach(async () => {
    house = await buildHouse();
    folder = mkdtempSync(join(tmpdir(), "riprap-program-"));
    program = join(folder, "program");
    copyFileSync("/usr/bin/sleep", program);
    running = Bun.spawn([program, "600"]);
    house.writeRules("rules.yaml", identityRule("app", { exe: program, delivery: "kernel" }));
  });

  afterEach(async () => {
    running.kill("SIGKILL");
    await house.leave();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What the module reports of the program as it runs. */
  function report() {
    const { pid } = running;
    const stats = statSync(program, { bigint: true });
    return house.kernel.exec({
      ...{ pid, startTimeNs: readStat(pid).startTimeNs, exe: program },
      ...{
        exeDev: stats.dev,
        exeIno: stats.ino,
        exeSize: stats.size,
        exeMtimeNs: stats.mtimeNs,
        exeCtimeNs: stats.ctimeNs,
      },
    });
  }

  const revoke = (sha256: string) =>
    controlClient(house.config.controlSocket).post("/v1/revoke", {
      query: { target: `executable:${sha256}`, reason: "malware" },
    });

  test("Admission withdraws it when its executable is revoked, and gives none to the next", async () => {
    const daemon = await house.start();
    const process = report();
    await eventually(() => process.state === "ready");
    await revoke("00".repeat(32));
    await settle();
    expect(process.state).toBe("ready");
    await revoke(digestOf(program));
    await eventually(() => process.state === "withdrawn");
    const [view] = daemon.processes({ all: true });
    expect(view?.svid).toBeUndefined();
    expect(house.revoked()).toHaveLength(1);
    const again = report();
    await eventually(() => again.state === "withdrawn");
  });

  test.each([
    ["its file got another time", () => utimesSync(program, 1, 1)],
    [
      "its file was replaced by another",
      () => {
        writeFileSync(`${program}.new`, "another program", { mode: 0o755 });
        renameSync(`${program}.new`, program);
      },
    ],
    ["its file was removed", () => rmSync(program)],
  ])("Admission withdraws it though %s since it began", async (_, change) => {
    await house.start();
    const digest = digestOf(program);
    const process = report();
    await eventually(() => process.state === "ready");
    change();
    await revoke("00".repeat(32));
    await settle();
    expect(process.state).toBe("ready");
    await revoke(digest);
    await eventually(() => process.state === "withdrawn");
  });
});

describe.skipIf(NATS_SERVER === null)("a process of another node (skipped without nats-server)", () => {
  let nats: NatsPark;
  let park: Park;

  beforeEach(async () => {
    nats = openPark();
    park = await openFleetPark([await nats.single({})], 2, 9, { workloadApi: true });
  }, TEST_MS);

  afterEach(async () => {
    await park?.leave();
    await nats?.leave();
  }, TEST_MS);

  test(
    "the Workload API ends its streams and refuses its calls when a node far away revokes its executable",
    async () => {
      const [first, second] = park.nodes;
      if (first === undefined || second === undefined) throw new Error("a park of two");
      // The caller is this test's own process.
      const rule = { apiVersion: "riprap.io/v1", kind: "WorkloadIdentity", metadata: { name: "app" } };
      const spec = { workloadID: "app", selectors: [{ "process:exe": process.execPath }] };
      await park.apply({ ...rule, spec: { ...spec, svid: { x509: { delivery: "workload-api" } } } }, first);
      await park.settle();
      const client = openClient(second.workloadSocket);
      const inbox = new Inbox(client.stream("FetchX509SVID"));
      const { svids } = (await inbox.next()) as { svids: { spiffe_id: string }[] };
      expect(svids[0]?.spiffe_id).toBe(`spiffe://${TRUST_DOMAIN}/app`);
      await first.revoke({ type: "executable", value: digestOf(process.execPath) });
      const ended = await statusOf(inbox.next());
      expect(ended.code).toBe(7);
      expect(ended.details).toContain("is revoked");
      expect((await statusOf(client.unary("FetchJWTSVID", { audience: ["a"] }))).code).toBe(7);
      client.close();
    },
    TEST_MS,
  );
});
