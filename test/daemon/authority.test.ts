// Authorities and revocation in the running daemon: over its control socket, down to the fake kernel.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CUT_BY, REASON } from "../../src/abi.ts";
import type { AuthorityList, SignedSvid, StepDone } from "../../src/ca.ts";
import { type ControlClient, controlClient } from "../../src/cli/client.ts";
import type { AuthorityEventView } from "../../src/daemon/control/authority.ts";
import type { RevocationView, RevokedIdView } from "../../src/daemon/control/port.ts";
import type { Daemon } from "../../src/daemon.ts";
import { buildHouse, CURL_RULES, type House, settle } from "./house.ts";

const ID = "spiffe://edge.test/curl";

let house: House;
let client: ControlClient;
beforeEach(async () => {
  house = await buildHouse();
  house.writeRules("curl.yaml", CURL_RULES);
  client = controlClient(house.config.controlSocket);
});
afterEach(async () => {
  await house.leave();
});

const post = <T>(route: string, query: Record<string, string>) => client.post<T>(route, { query });
const authorities = async (kind: string, phase: string) =>
  (await client.get<AuthorityList>("/v1/authorities")).authorities.filter((a) => a.kind === kind && a.phase === phase);
const serialOf = (daemon: Daemon) => daemon.processes({ all: false })[0]?.svid?.serial ?? "";

/** A step that waits for new SVIDs waits on the house's clock. */
async function during<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  while (!isDone) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    await house.clock.advance(20);
  }
  return done;
}

/** Shows the chain of a process to this node, as a peer would. */
async function showAsPeer(chain: readonly Uint8Array[]): Promise<number> {
  const before = house.kernel.ofType("verified").length;
  house.kernel.send("verify", {
    ask: BigInt(before + 1),
    flow: 1n,
    instance: 9n,
    trustGeneration: 1n,
    peerIsServer: 1,
    chain,
  });
  await settle();
  return house.kernel.ofType("verified").at(-1)?.alert ?? -1;
}

describe("authorities", () => {
  test("a rotation of the root by command moves the intermediate, and each change of the bundle advances the trust generation", async () => {
    await house.start({ config: { keyPublishAhead: 5000 } });
    const process = house.kernel.exec();
    await settle();
    const before = process.svid?.chain[1];
    const [first] = await authorities("x509", "active");
    const generation = () => house.kernel.ofType("trust").at(-1)?.generation ?? 0n;
    const trust = generation();
    const { authority } = await post<StepDone>("/v1/authorities/prepare", { kind: "x509" });
    await settle();
    expect(generation()).toBeGreaterThan(trust);
    const early = post("/v1/authorities/activate", { id: authority.id });
    await expect(early).rejects.toMatchObject({ code: "authority_too_early" });
    await house.clock.advance(5000);
    await during(post("/v1/authorities/activate", { id: authority.id }));
    const list = await client.get<AuthorityList>("/v1/authorities");
    expect(list.intermediate.root).toBe(authority.id);
    // The fleet's roster names it at once: what it signs is believed.
    const later = house.kernel.exec();
    await settle();
    expect(await showAsPeer(later.svid?.chain ?? [])).toBe(0);
    // Nothing under the old root is touched until somebody says that it is not to be relied on.
    expect(process.svid?.chain[1]).toEqual(before as Uint8Array);
    await during(post("/v1/authorities/taint", { id: first?.id ?? "" }));
    expect(process.svid?.chain[1]).not.toEqual(before as Uint8Array);
    expect(await authorities("x509", "revoked")).toMatchObject([{ id: first?.id, isHeld: false }]);
    expect(house.log.map(({ event }) => event)).toContain("a tainted root is trusted no longer");
    const events = await client.get<readonly AuthorityEventView[]>("/v1/authorities/events");
    expect(events.map(({ event }) => event)).toEqual(
      expect.arrayContaining(["prepared", "published", "activated", "retired", "tainted", "revoked"]),
    );
  });

  test("a taint that a stopped daemon did not finish is finished by the next", async () => {
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const before = process.svid?.chain[1];
    await during(post("/v1/authorities/prepare", { kind: "x509" }));
    const [next] = await authorities("x509", "published");
    await during(post("/v1/authorities/activate", { id: next?.id ?? "", force: "1" }));
    const [old] = await authorities("x509", "retired");
    await daemon.stop();
    await house.besides((open) => open.taint(old?.id ?? ""));
    await house.start();
    for (let i = 0; i < 20; i += 1) {
      await house.clock.advance(100);
      await settle();
    }
    expect(await authorities("x509", "revoked")).toHaveLength(1);
    expect(process.svid?.chain[1]).not.toEqual(before as Uint8Array);
  });

  test("a JWT key is replaced by time alone, first published, then used", async () => {
    const daemon = await house.start();
    const [first] = await authorities("jwt", "active");
    await daemon.stop();
    const begun = house.clock.now();
    house.clock.set(begun + 7 * 24 * 3_600_000 - 80 * 60_000);
    const next = await house.start();
    expect(await authorities("jwt", "published")).toHaveLength(1);
    expect(await authorities("jwt", "active")).toMatchObject([{ id: first?.id }]);
    await next.stop();
    house.clock.set(begun + 7 * 24 * 3_600_000 - 60 * 60_000);
    await house.start();
    expect(await authorities("jwt", "retired")).toMatchObject([{ id: first?.id }]);
  });

  test.each([
    ["prepare", { kind: "x508" }, "invalid"],
    ["prepare", {}, "invalid"],
    ["activate", { id: "nothing-here" }, "authority_unknown"],
    ["taint", {}, "invalid"],
    ["install", {}, "csr_missing"],
  ])("POST /v1/authorities/%s with %j is refused with %s", async (step, query, code) => {
    await house.start();
    await expect(post(`/v1/authorities/${step}`, query as Record<string, string>)).rejects.toMatchObject({ code });
  });
});

describe("revocation", () => {
  test("of a serial number cuts the peer that shows it, lists it in the CRL, and gives the process of this node another SVID", async () => {
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const serial = serialOf(daemon);
    const chain = process.svid?.chain ?? [];
    expect(await showAsPeer(chain)).toBe(0);
    const crl = await client.text("/v1/crl");
    const view = await during(post<RevocationView>("/v1/revoke", { target: serial, reason: "stolen" }));
    expect(view).toMatchObject({ target: `serial:${serial}`, outcome: "revoked" });
    expect(view.notes[0]).toBe(`It was ${ID}'s.`);
    await settle();
    expect(serialOf(daemon)).not.toBe(serial);
    const cut = { value: 0n, by: CUT_BY.peerId, reason: REASON.revoked, id: ID };
    expect(house.kernel.ofType("cut")).toContainEqual(cut);
    expect(await showAsPeer(chain)).toBe(44);
    expect(await showAsPeer(process.svid?.chain ?? [])).toBe(0);
    expect(await client.text("/v1/crl")).not.toBe(crl);
    const signed = await client.get<readonly SignedSvid[]>("/v1/signed", { query: { id: ID } });
    const old = signed.find(({ id }) => id === serial);
    expect(old).toMatchObject({
      id: serial,
      revoked: { reason: "stolen" },
      context: { rule: "WorkloadIdentity/curl" },
    });
    expect(old?.context["because"]).toEqual(['process:exe is "/usr/bin/curl"']);
  });

  test("of a SPIFFE ID withdraws it here and refuses it from peers, until it is lifted", async () => {
    const daemon = await house.start();
    const process = house.kernel.exec();
    await settle();
    const chain = process.svid?.chain ?? [];
    expect(await showAsPeer(chain)).toBe(0);
    await during(post("/v1/revoke", { target: ID, reason: "stolen", local: "1" }));
    await settle();
    expect(process.state).toBe("withdrawn");
    expect(await showAsPeer(chain)).toBe(44);
    expect(await client.get<readonly RevokedIdView[]>("/v1/revocations")).toMatchObject([
      { spiffeId: ID, reason: "stolen" },
    ]);
    const again = house.kernel.exec();
    await settle();
    expect(again.state).toBe("withdrawn");
    await post("/v1/revoke", { target: ID, lift: "1" });
    await settle();
    expect(again.state).toBe("ready");
    expect(await showAsPeer(again.svid?.chain ?? [])).toBe(0);
    expect(await showAsPeer(chain)).toBe(44);
    expect(daemon.status().ready).toBe(true);
  });

  test("of a SPIFFE ID by the command beside the daemon is noticed", async () => {
    await house.start();
    const process = house.kernel.exec();
    await settle();
    house.revokeIdBeside(ID);
    await house.clock.advance(1500);
    await settle();
    expect(process.state).toBe("withdrawn");
  });

  test("of an authority takes it out of the bundle, and of the intermediate's key ends what this node signs", async () => {
    await house.start();
    const { authority } = await post<StepDone>("/v1/authorities/prepare", { kind: "jwt" });
    await post("/v1/revoke", { target: `authority:${authority.id}` });
    expect(await authorities("jwt", "revoked")).toHaveLength(1);
    const process = house.kernel.exec();
    await settle();
    const [svid] = await client.get<readonly SignedSvid[]>("/v1/signed");
    await during(post("/v1/revoke", { target: `authority:${svid?.authority}` }));
    expect(await showAsPeer(process.svid?.chain ?? [])).toBe(44);
  });

  test.each([
    ["something that is nothing", "rubbish", "revocation_invalid"],
    ["an ID that is none", "spiffe://edge.test//", "spiffe_id_invalid"],
    ["an authority that nobody knows", "authority:none", "authority_unknown"],
    ["an empty target", "", "invalid"],
  ])("of %s is refused", async (_, target, code) => {
    await house.start();
    await expect(post("/v1/revoke", { target })).rejects.toMatchObject({ code });
  });

  test("of a SPIFFE ID that the fleet was told of cannot be lifted", async () => {
    await house.start();
    await during(post("/v1/revoke", { target: ID }));
    await expect(post("/v1/revoke", { target: ID, lift: "1" })).rejects.toMatchObject({ code: "revocation_permanent" });
  });

  test("lift() takes a SPIFFE ID that is revoked, and nothing else", async () => {
    await house.start();
    await expect(post("/v1/revoke", { target: ID, lift: "1" })).rejects.toMatchObject({ code: "not_found" });
    await expect(post("/v1/revoke", { target: "4142", lift: "1" })).rejects.toMatchObject({
      code: "revocation_invalid",
    });
  });
});
