// What a whole daemon over a fake kernel answers: flows, metrics, and a person's questions.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { FLOW_STATE, REASON } from "../../src/abi.ts";
import { lookup } from "../../src/policy.ts";
import { sampleBody } from "../abi/sample.ts";
import { buildHouse, CURL_RULES, codeOf, type House, settle } from "./house.ts";

let house: House;
beforeEach(async () => {
  house = await buildHouse();
});
afterEach(async () => {
  await house.leave();
});

describe("flows", () => {
  const flow = (over: object) => ({
    ...sampleBody("flow"),
    error: 0,
    alert: 0,
    openedNs: 1_700_000_000_000_000_000n,
    ...over,
  });

  test("flows() shows live and ended flows with their rule when events come", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const tableGeneration = house.kernel.tableGeneration;
    const remote = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 1, 1]);
    const { rule } = lookup(house.kernel.table ?? new Uint8Array(), {
      subject: process.subject,
      inbound: false,
      remote,
      port: 80,
    });
    const { instance } = process.facts;
    const common = {
      instance,
      tableGeneration,
      rule,
      remote,
      suite: 0x1301,
      group: 29,
      reason: REASON.rule,
      mode: 3,
      tls: 1,
      flags: 8,
    };
    house.kernel.send("flow", flow({ ...common, flow: 1n, state: FLOW_STATE.open }));
    house.kernel.send(
      "flow",
      flow({ ...common, flow: 2n, state: FLOW_STATE.denied, reason: REASON.noRule, rule: 0, tls: 0, error: 13 }),
    );
    await settle();
    expect(daemon.flows({ live: true, limit: 10 })).toMatchObject([
      {
        flow: "1",
        state: "open",
        process: "curl",
        rule: "AccessPolicy/curl#egress[0]",
        tls: "TLS 1.3",
        suite: "TLS_AES_128_GCM_SHA256",
        group: "x25519",
        mode: "enforce",
      },
    ]);
    expect(
      daemon
        .flows({ live: false, limit: 10 })
        .map(({ state }) => state)
        .sort(),
    ).toEqual(["denied", "open"]);
    expect(daemon.flows({ live: false, limit: 10 }).find(({ state }) => state === "denied")).toMatchObject({
      reason: "no_rule",
      error: "EACCES",
    });
    house.kernel.send("flow", flow({ ...common, flow: 1n, state: FLOW_STATE.closed }));
    await settle();
    expect(daemon.flows({ live: true, limit: 10 })).toEqual([]);
  });

  test("flows() shows whose a connection is that did not wait for an SVID, and nobody's as nobody's", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const plain = {
      instance: process.facts.instance,
      ownId: "",
      peerId: "",
      state: FLOW_STATE.open,
      reason: REASON.rule,
    };
    house.kernel.send("flow", flow({ ...plain, flow: 1n, subject: process.subject }));
    house.kernel.send("flow", flow({ ...plain, flow: 2n, subject: 0 }));
    await settle();
    const [own, none] = daemon.flows({ live: true, limit: 10 });
    expect([own?.own, none?.own]).toEqual(["spiffe://edge.test/curl", undefined]);
  });

  test("followFlows() gives each event as it happens until the signal", async () => {
    const daemon = await house.start();
    const stop = new AbortController();
    const seen: string[] = [];
    const following = (async () => {
      for await (const view of daemon.followFlows(stop.signal)) seen.push(`${view.flow} ${view.state}`);
    })();
    house.kernel.send("flow", flow({ flow: 5n, state: FLOW_STATE.open }));
    house.kernel.send("flow", flow({ flow: 5n, state: FLOW_STATE.closed }));
    await settle();
    stop.abort();
    await following;
    expect(seen).toEqual(["5 open", "5 closed"]);
  });

  test("metrics() counts lost events when the module's queue was full", async () => {
    const daemon = await house.start();
    house.kernel.send("lost", { flowEvents: 42n });
    await settle();
    expect(daemon.metrics()).toContain("riprap_flow_events_lost_total 42\n");
    expect(daemon.metrics()).toContain("riprap_flows_fail_open_total 5\n");
    expect(house.events("warn")).toContain("flow events were lost: the module's queue was full");
  });
});

describe("questions", () => {
  test("attest() and generate() answer for a real process when asked", async () => {
    const daemon = await house.start();
    const view = await daemon.attest(process.pid);
    expect(view.labels["process:pid"]).toEqual([String(process.pid)]);
    expect(view.labels["process:exe"]?.[0]).toContain("bun");
    const yaml = await daemon.generate(process.pid, "tester");
    await daemon.apply({ name: "generated.yaml", text: yaml });
    expect((await daemon.attest(process.pid)).matches[0]?.spiffeId).toBe("spiffe://edge.test/tester");
    expect(await codeOf(daemon.attest(4_194_303))).toBe("not_found");
  });

  test("explain() says why and what would allow it when a connection is denied", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const denied = await daemon
      .explain({ from: String(process.facts.pid), to: "192.0.2.1:80" })
      .catch((thrown: unknown) => thrown);
    // Its PID is no process of this machine: only what the kernel said of it is known.
    expect(denied).toBeDefined();
    const view = await daemon.explain({ from: "spiffe://edge.test/curl", to: "192.0.2.1:80" });
    expect(view).toMatchObject({ verdict: "deny", mode: "enforce" });
    expect(view.remedy).toBeDefined();
    expect(await codeOf(daemon.explain({ from: "nobody/else", to: "192.0.2.1:80" }))).toBe("invalid");
    expect(await codeOf(daemon.explain({ from: "spiffe://edge.test/curl", to: "192.0.2.1:99999" }))).toBe("invalid");
  });

  test("drain() gives the number of live flows when the module drains", async () => {
    const daemon = await house.start();
    expect(await daemon.drain(true)).toBe(3);
    expect(daemon.status().module?.draining).toBe(true);
    await daemon.drain(false);
    expect(daemon.status().module?.draining).toBe(false);
  });
});
