// The whole daemon over a fake kernel: from a process to its SVID, and all that can go wrong on the way.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { buildHouse, CURL_RULES, type House, settle } from "./house.ts";

let house: House;
beforeEach(async () => {
  house = await buildHouse();
});
afterEach(async () => {
  await house.leave();
});

describe("startDaemon()", () => {
  test("startDaemon() gives a process its SVID when a rule selects it", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("ready");
    expect(process.spiffeId).toBe("spiffe://edge.test/curl");
    expect(process.svid?.chain.length).toBe(2);
    const [view] = daemon.processes({ all: false });
    expect(view).toMatchObject({ pid: process.facts.pid, name: "curl", state: "ready", rule: "WorkloadIdentity/curl" });
    expect(daemon.status()).toMatchObject({ plane: "kernel", ready: true, processes: { live: 1, identified: 1 } });
  });
});
