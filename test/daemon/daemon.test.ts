// The whole daemon over a fake kernel: from a process to its SVID, and all that can go wrong on the way.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";
import { CUT_BY, REASON } from "../../src/abi.ts";
import { buildHouse, CURL_RULES, type House, settle, TEMPLATE_RULES } from "./house.ts";

const HOUR_MS = 3_600_000;
let house: House;
beforeEach(async () => {
  house = await buildHouse();
});
afterEach(async () => {
  await house.leave();
});

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
    expect(house.events("warn")).toContain("a process was refused an identity");
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
    expect(house.events("error")).toContain("rules could not be put in force");
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
    expect(house.events("error")).toEqual([]);
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
    expect(house.events("warn")).toContain("a peer was refused");
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
