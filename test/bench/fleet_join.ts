// A storm of joins at one issuing node: whole ones, certificates, files and all, every machine in this process.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { joinFleet } from "../../src/daemon/fleet/joiner.ts";
import { RiprapError } from "../../src/error.ts";
import { openFleetPark } from "../fleet/fleet_park.ts";
import { openPark } from "../fleet/nats_server.ts";
import type { AddRow } from "./fleet.ts";

/** All machines are in this process: more of them at once would only wait for one another. */
const AT_ONCE = 10;
const SILENCE: ReadonlySet<string> = new Set(["nats_not_connected", "join_issuer_absent"]);

export async function joinStorm(joins: number, row: AddRow): Promise<void> {
  const nats = openPark();
  const folder = mkdtempSync(join(tmpdir(), "riprap-joins-"));
  const openDevice = () => () => {
    throw new RiprapError("ENOENT", "there is no module here");
  };
  const fleet = await openFleetPark([await nats.single()], 1, 1, { openDevice });
  try {
    const [issuer] = fleet.nodes;
    if (issuer === undefined) throw new RangeError("a park has a node");
    const tokens: string[] = [];
    for (let i = 0; i < joins; i++) tokens.push(await issuer.token());
    const took: number[] = [];
    let [next, again] = [0, 0];
    const at = performance.now();
    const machines = Array.from({ length: AT_ONCE }, async () => {
      for (let i = next++; i < joins; i = next++) {
        const begun = performance.now();
        while (!(await joinAs(`guest-${i}`, tokens[i] ?? "", folder))) again += 1;
        took.push(performance.now() - begun);
      }
    });
    await Promise.all(machines);
    row(1, `${joins} joins at one issuing node, s`, (performance.now() - at) / 1000);
    row(1, `joins at one issuing node, per second (${AT_ONCE} at once)`, (joins * 1000) / (performance.now() - at));
    row(1, "one join of the storm, ms", took.toSorted((a, b) => a - b)[took.length >> 1] ?? 0);
    row(1, "joins of the storm that had to begin again", again);
    const { nodes } = await issuer.status();
    if (nodes.length !== joins + 1) throw new Error(`the roster has ${nodes.length} nodes`);
  } finally {
    await fleet.leave();
    await nats.leave();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** False when nobody answered in time, as on a machine that does much else: then it comes again, as a person would have it. */
async function joinAs(nodeName: string, token: string, folder: string): Promise<boolean> {
  const joining = joinFleet({
    config: {
      ...{ stateDir: join(folder, nodeName), keyCustody: "file", natsServers: [], nodeAddresses: [] },
      ...{ natsCredentials: "", natsCa: "" },
    },
    ...{ token, nodeName, clock: systemClock, random: Math.random },
    signal: AbortSignal.timeout(120_000),
    onProgress: () => undefined,
  });
  return joining.then(
    () => true,
    (thrown: unknown) => {
      if (thrown instanceof RiprapError && SILENCE.has(thrown.code)) return false;
      throw thrown;
    },
  );
}
