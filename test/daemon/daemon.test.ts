// The whole daemon over a fake kernel: from a process to its SVID, and all that can go wrong on the way.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";
import { ACTION, CUT_BY, FLOW_STATE, REASON } from "../../src/abi.ts";
import { RiprapError } from "../../src/error.ts";
import { lookup } from "../../src/policy.ts";
import { sampleBody } from "../abi/sample.ts";
import { buildHouse, CURL_RULES, eventually, type House, settle } from "./house.ts";

const HOUR_MS = 3_600_000;
const TEMPLATE_RULES = `
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: agent }
spec:
  workloadID: agent/[process:arg[1]]
  selectors:
    - process:name: agent
`;

let house: House;
beforeEach(async () => {
  house = await buildHouse();
});
afterEach(async () => {
  await house.leave();
});

function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (thrown: unknown) => (thrown instanceof RiprapError ? thrown.code : String(thrown)),
  );
}

function events(level: string): unknown[] {
  return house.log.filter((line) => line.level === level).map((line) => line.event);
}

describe("admission", () => {
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

  test("Admission leaves a process alone when no rule selects it", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec({ exe: "/usr/bin/wget", comm: "wget" });
    await settle();
    expect(process.state).toBe("unmanaged");
    expect(daemon.processes({ all: true })).toEqual([]);
  });

  test("Admission manages nothing when there are no rules", async () => {
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("unmanaged");
    expect(daemon.status().ready).toBe(true);
  });

  test("Admission never manages the daemon itself when a rule selects everything", async () => {
    house.writeRules("all.yaml", CURL_RULES.replace("process:exe: /usr/bin/curl", "process:uid: 1000"));
    await house.start();
    const own = house.kernel.exec({ pid: process.pid });
    const other = house.kernel.exec();
    await settle();
    expect([own.state, other.state]).toEqual(["unmanaged", "ready"]);
  });

  test("Admission withdraws a process when its SPIFFE ID cannot be made of its labels", async () => {
    house.writeRules("agent.yaml", TEMPLATE_RULES);
    const daemon = await house.start();
    const good = house.kernel.exec({ comm: "agent", argv: "agent\0one\0" });
    const bad = house.kernel.exec({ comm: "agent", argv: "agent\0../root\0" });
    await settle();
    expect([good.spiffeId, good.state]).toEqual(["spiffe://edge.test/agent/one", "ready"]);
    expect([bad.spiffeId, bad.state]).toEqual(["", "withdrawn"]);
    expect(daemon.processes({ all: true }).map(({ state }) => state)).toEqual(["ready", "withdrawn"]);
    expect(events("warn")).toContain("a process was refused an identity");
  });

  test("RuleBook numbers a new identity in the table when it is assigned", async () => {
    house.writeRules("agent.yaml", TEMPLATE_RULES);
    await house.start();
    const before = house.kernel.tableGeneration;
    const processes = ["a", "b", "c"].map((name) => house.kernel.exec({ comm: "agent", argv: `agent\0${name}\0` }));
    await settle();
    expect(new Set(processes.map(({ subject }) => subject)).size).toBe(3);
    expect(house.kernel.tableGeneration).toBeGreaterThan(before);
    const order = house.kernel.received.map(({ type }) => type);
    expect(order.lastIndexOf("tableCommit")).toBeLessThan(order.lastIndexOf("assign"));
  });

  test("RuleBook assigns nothing when the module refuses the table that would number it", async () => {
    house.writeRules("agent.yaml", TEMPLATE_RULES);
    await house.start();
    const refuse = house.kernel.refusals;
    refuse.set("tableCommit", 12);
    const process = house.kernel.exec({ comm: "agent", argv: "agent\0one\0" });
    await settle();
    // The second try, without what was refused, goes through.
    expect(process.state).toBe("ready");
    expect(events("error")).toContain("rules could not be put in force");
  });

  test("Admission asks for a key again when the module sends none after ASSIGN", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    house.kernel.answers = false;
    const process = house.kernel.exec();
    await settle();
    expect(house.kernel.ofType("assign").length).toBe(1);
    house.kernel.answers = true;
    await house.clock.advance(11_000);
    await settle();
    expect(house.kernel.ofType("renew").length).toBe(1);
    expect(process.keyId).toBeGreaterThan(0n);
  });

  test("Admission forgets a process when it ends while it is attested", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    house.kernel.exit(process);
    await settle();
    expect(daemon.processes({ all: true })).toEqual([]);
    expect(house.log.filter((line) => line.level === "error")).toEqual([]);
  });

  test("Admission gives the same answer and keeps the SVID when an instance is reported again", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const [first] = daemon.processes({ all: false });
    house.kernel.send("process", process.facts);
    await settle();
    expect(house.kernel.ofType("assign").length).toBe(2);
    expect(house.kernel.ofType("svid").length).toBe(1);
    expect(daemon.processes({ all: false })).toEqual([first as NonNullable<typeof first>]);
    expect(house.revoked()).toEqual([]);
  });
});

describe("Issuance", () => {
  test("Issuance renews an SVID at half of its life when the process lives on", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const first = process.svid;
    await house.clock.advance(HOUR_MS / 2 - 1000);
    await settle();
    expect(process.svid).toBe(first as NonNullable<typeof first>);
    await house.clock.advance(2000);
    await settle();
    expect(process.svid).not.toBe(first);
    expect(daemon.processes({ all: false })[0]?.svid?.renewals).toBe(1);
  });

  test("Issuance asks for a key again when the module does not answer RENEW", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    house.kernel.exec();
    await settle();
    house.kernel.answers = false;
    await house.clock.advance(HOUR_MS / 2 + 60_000);
    await settle();
    expect(house.kernel.ofType("renew").length).toBeGreaterThan(3);
    house.kernel.answers = true;
    await house.clock.advance(60_000);
    await settle();
    expect(house.kernel.ofType("svid").length).toBe(2);
  });

  test("Issuance signs again when the module refuses an SVID", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    house.kernel.refusals.set("svid", 12);
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("assigned");
    expect(daemon.processes({ all: true })[0]?.state).toBe("pending");
    await house.clock.advance(5000);
    await settle();
    expect(process.state).toBe("ready");
  });

  test("Issuance uses the lifetime of the rule when it gives one", async () => {
    house.writeRules(
      "curl.yaml",
      CURL_RULES.replace(
        "workloadID: curl",
        "workloadID: curl\n  svid: { x509: { ttl: 20s, dnsNames: [curl.edge.test] } }",
      ),
    );
    await house.start();
    const process = house.kernel.exec();
    await settle();
    expect(Number(process.svid?.notAfter) * 1000 - house.clock.now()).toBe(20_000);
    await house.clock.advance(60_000);
    await settle();
    expect(house.kernel.ofType("svid").length).toBe(7);
  });

  test("Issuance puts the rule's dnsNames into the SVID, as @peculiar/x509 reads it, and none that the rule does not list", async () => {
    const named = CURL_RULES.replace(
      "workloadID: curl",
      "workloadID: curl\n  svid: { x509: { dnsNames: [curl.edge.test, www.edge.test] } }",
    );
    const plain = CURL_RULES.split("---")[0]?.replaceAll("curl", "wget") ?? "";
    house.writeRules("curl.yaml", named);
    house.writeRules("wget.yaml", plain);
    await house.start();
    const curl = house.kernel.exec();
    const wget = house.kernel.exec({ exe: "/usr/bin/wget", comm: "wget" });
    await settle();
    const namesOf = (process: typeof curl) => {
      const leaf = new X509Certificate(Uint8Array.from(process.svid?.chain[0] ?? []));
      return leaf.getExtension(SubjectAlternativeNameExtension)?.names.items.map(({ type, value }) => [type, value]);
    };
    expect(namesOf(curl)).toEqual([
      ["url", "spiffe://edge.test/curl"],
      ["dns", "curl.edge.test"],
      ["dns", "www.edge.test"],
    ]);
    expect(namesOf(wget)).toEqual([["url", "spiffe://edge.test/wget"]]);
  });

  test("Issuance journals every unexpired SVID as revoked when the process ends", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const first = daemon.processes({ all: false })[0]?.svid?.serial;
    await house.clock.advance(HOUR_MS / 2 + 1000);
    await settle();
    const second = daemon.processes({ all: false })[0]?.svid?.serial;
    house.kernel.exit(process);
    await settle();
    expect(new Set(house.revoked())).toEqual(new Set([first ?? "", second ?? ""]));
    expect(daemon.processes({ all: true })).toEqual([]);
    await house.clock.advance(HOUR_MS);
    expect(house.kernel.ofType("renew").length).toBe(1);
  });
});

describe("verifyPeer()", () => {
  test("verifyPeer() gives ID and key when the chain is of this trust domain", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    const process = house.kernel.exec();
    await settle();
    const chain = process.svid?.chain ?? [];
    house.kernel.send("verify", { ask: 7n, flow: 1n, instance: 1n, trustGeneration: 1n, peerIsServer: 1, chain });
    await settle();
    const [answer] = house.kernel.ofType("verified");
    expect(answer).toMatchObject({ ask: 7n, alert: 0, spiffeId: "spiffe://edge.test/curl", trustGeneration: 1n });
    expect(answer?.publicKey[0]).toBe(4);
    expect(answer?.notAfter).toBe(process.svid?.notAfter ?? 0n);
  });

  test("verifyPeer() gives an alert and no ID when the chain is broken, foreign or revoked", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    const process = house.kernel.exec();
    await settle();
    const chain = process.svid?.chain ?? [];
    const torn = chain.map((bytes, index) =>
      index === 0 ? bytes.with(bytes.length - 1, (bytes.at(-1) ?? 0) ^ 1) : bytes,
    );
    const about = { flow: 1n, instance: 1n, trustGeneration: 1n, peerIsServer: 1 };
    house.kernel.exit(process);
    for (const [ask, hostile] of [torn, [new Uint8Array([0x30, 0])], [], chain.slice(0, 1), chain].entries()) {
      house.kernel.send("verify", { ...about, ask: BigInt(ask), chain: hostile });
    }
    await settle();
    const answers = house.kernel.ofType("verified");
    expect(answers.length).toBe(5);
    for (const answer of answers) {
      expect(answer.alert).toBeGreaterThan(0);
      expect(answer.spiffeId).toBe("");
    }
    expect(events("warn")).toContain("a peer was refused");
  });
});

describe("revocation", () => {
  test("PeerBook cuts a peer off and voids cached answers when another program revokes its SVID", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const serial = daemon.processes({ all: false })[0]?.svid?.serial ?? "";
    const chain = process.svid?.chain ?? [];
    house.kernel.send("verify", { ask: 1n, flow: 1n, instance: 9n, trustGeneration: 1n, peerIsServer: 1, chain });
    await settle();
    house.revokeBeside(serial);
    await house.clock.advance(1500);
    await settle();
    expect(house.kernel.ofType("trust").map(({ generation }) => generation)).toEqual([1n, 2n]);
    expect(house.kernel.ofType("cut").at(-1)).toMatchObject({
      by: CUT_BY.peerId,
      id: "spiffe://edge.test/curl",
      reason: REASON.revoked,
    });
    expect(daemon.status().trust).toEqual({ desired: 2, applied: 2 });
  });

  test("PeerBook cuts nobody off when an SVID ends with its process", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    const process = house.kernel.exec();
    await settle();
    const chain = process.svid?.chain ?? [];
    house.kernel.send("verify", { ask: 1n, flow: 1n, instance: 9n, trustGeneration: 1n, peerIsServer: 1, chain });
    await settle();
    house.kernel.exit(process);
    await settle();
    house.revokeBeside("41aa");
    await house.clock.advance(1500);
    await settle();
    expect(house.kernel.ofType("cut").filter(({ by }) => by === CUT_BY.peerId)).toEqual([]);
    expect(house.kernel.ofType("trust").length).toBe(2);
  });
});

describe("rules", () => {
  test("RuleKeeper keeps the last good generation when the files are broken", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start({ watch: true });
    const good = house.kernel.table;
    house.writeRules("curl.yaml", CURL_RULES.replace("mode: enforce", "mode: strict"));
    // The watcher's event comes in its own time; the debounce after it is the clock's.
    while (daemon.status().rules.error === undefined) {
      await eventually(() => true);
      await house.clock.advance(200);
    }
    const { rules, ready, warnings } = daemon.status();
    expect(rules.error).toContain("curl.yaml:");
    expect(rules.desired).toBeGreaterThan(rules.applied);
    expect(ready).toBe(false);
    expect(warnings.join("\n")).toContain("The rules as written are not in force");
    expect(house.kernel.table).toBe(good as NonNullable<typeof good>);
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("ready");
  });

  test("apply() puts a resource in force and writes it to its own file when all of it is good", async () => {
    const daemon = await house.start();
    const view = await daemon.apply({ name: "mine.yaml", text: CURL_RULES });
    expect(view.written.map((file) => file.split("/").at(-1)).sort()).toEqual([
      "access_policy-curl.yaml",
      "workload_identity-curl.yaml",
    ]);
    expect(view.generation).toBe(Number(house.kernel.tableGeneration));
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("ready");
    expect(daemon.resources().map(({ kind, name }) => `${kind}/${name}`)).toEqual([
      "WorkloadIdentity/curl",
      "AccessPolicy/curl",
    ]);
    expect(daemon.resources("accesspolicy").length).toBe(1);
  });

  test("apply() writes nothing when one resource of several is wrong", async () => {
    const daemon = await house.start();
    const text = CURL_RULES.replace("mode: enforce", "mode: strict");
    await expect(daemon.apply({ name: "mine.yaml", text })).rejects.toThrow("mine.yaml:");
    expect(await codeOf(daemon.apply({ name: "mine.yaml", text: "# nothing\n" }))).toBe("invalid");
    expect(daemon.resources()).toEqual([]);
    const process = house.kernel.exec();
    await settle();
    expect(process.state).toBe("unmanaged");
  });

  test("apply() takes a resource out of another file when it had it before", async () => {
    house.writeRules("all.yaml", CURL_RULES);
    const daemon = await house.start();
    await daemon.apply({ name: "mine.yaml", text: CURL_RULES.split("---")[1]?.replace("enforce", "observe") ?? "" });
    const kinds = daemon.resources().map(({ source }) => source.split("/").at(-1));
    expect(kinds).toEqual(["all.yaml:1", "access_policy-curl.yaml:1"]);
    await daemon.remove("AccessPolicy", "curl");
    expect(daemon.resources().map(({ kind }) => kind)).toEqual(["WorkloadIdentity"]);
    expect(await codeOf(daemon.remove("AccessPolicy", "curl"))).toBe("not_found");
  });

  test("apply() fails and the earlier rules stay when the module refuses the table", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    house.kernel.refusals.set("tableCommit", 12);
    const more = TEMPLATE_RULES;
    expect(await codeOf(daemon.apply({ name: "mine.yaml", text: more }))).toBe("device_refused");
    expect(daemon.resources().length).toBe(2);
    expect(daemon.status().rules.error).toContain("ENOMEM");
    expect(readdirSync(house.config.rulesDir)).toEqual(["curl.yaml"]);
  });

  test("reconcile() takes an identity away and cuts its flows when no rule gives it any more", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const serial = daemon.processes({ all: false })[0]?.svid?.serial ?? "";
    await daemon.remove("WorkloadIdentity", "curl");
    await settle();
    expect(process.state).toBe("unmanaged");
    expect(house.revoked()).toEqual([serial]);
    expect(house.kernel.ofType("cut").map(({ by, value }) => `${by} ${value}`)).toContain(
      `2 ${process.facts.instance}`,
    );
  });

  test("reconcile() gives another identity when the rules say so", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    await daemon.apply({
      name: "x.yaml",
      text: (CURL_RULES.split("---")[0] ?? "").replace("workloadID: curl", "workloadID: other"),
    });
    await settle();
    expect(process.spiffeId).toBe("spiffe://edge.test/other");
    expect(process.state).toBe("ready");
    expect(house.revoked().length).toBe(1);
  });

  test("NameKeeper compiles a service's new addresses when its records have expired", async () => {
    house.writeRules("curl.yaml", CURL_RULES.replace("address: 10.0.0.0/8", "service: web"));
    house.writeRules(
      "web.yaml",
      "apiVersion: riprap.io/v1\nkind: Service\nmetadata: { name: web }\nspec:\n  addresses:\n    - address: web.edge.test\n      ports: [80]\n",
    );
    let address = "10.1.1.1";
    const daemon = await house.start({ resolve: async () => [{ address, ttlMs: 30_000 }] });
    expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("allow");
    expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.2.2.2:80" })).verdict).toBe("deny");
    address = "10.2.2.2";
    const before = house.kernel.tableGeneration;
    await house.clock.advance(31_000);
    await settle();
    expect(house.kernel.tableGeneration).toBeGreaterThan(before);
    expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.2.2.2:80" })).verdict).toBe("allow");
    // The old one lingers for those who remember it, then goes.
    expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("allow");
    await house.clock.advance(91_000);
    await settle();
    expect((await daemon.explain({ from: "spiffe://edge.test/curl", to: "10.1.1.1:80" })).verdict).toBe("deny");
  });

  test("the table says what explain() says when a verdict is looked up in it", async () => {
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    const process = house.kernel.exec();
    await settle();
    const remote = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 1, 1]);
    const connection = { subject: process.subject, inbound: false, remote, port: 80 };
    expect(lookup(house.kernel.table ?? new Uint8Array(), connection).action).toBe(ACTION.mutual);
    expect(lookup(house.kernel.table ?? new Uint8Array(), { ...connection, port: 81 }).reason).toBe(REASON.noRule);
  });
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
    expect(events("warn")).toContain("flow events were lost: the module's queue was full");
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

test("startDaemon() keeps no rule's unfinished file when a writer has just begun", async () => {
  writeFileSync(join(house.config.rulesDir, ".curl.yaml.new"), "kind: [");
  const daemon = await house.start();
  expect(daemon.status().rules.error).toBeUndefined();
});
