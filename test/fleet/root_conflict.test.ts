// A root that ends another without knowing what that one had brought in: on every node it leaves the bundle again, and no root's holder says it anew.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { fingerprint } from "../../src/ca/key.ts";
import { listRoots, openNodeKeys, openRootKey } from "../../src/ca.ts";
import { parseBody, type RootEntry } from "../../src/federation/body.ts";
import type { Signer } from "../../src/federation/curve.ts";
import { signStatement } from "../../src/federation/statement.ts";
import { type KnownRoot, nextRecord } from "../../src/federation/succession.ts";
import { openStore, storePath } from "../../src/store.ts";
import { makeRoot } from "../federation/fleet_fixture.ts";
import { makeRootCertificate } from "../federation/root_fixture.ts";
import { identityDocument, openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;

describe.skipIf(NATS_SERVER === null)("roots that do not know of one another (skipped without nats-server)", () => {
  let nats: NatsPark;
  let park: Park;

  beforeAll(async () => {
    nats = openPark();
    park = await openFleetPark([await nats.single()], 3, 17);
  }, TEST_MS);

  afterAll(async () => {
    await park?.leave();
    await nats?.leave();
  });

  /** The phase of each of these roots on every node. */
  async function phases(...certificates: readonly Uint8Array[]): Promise<readonly string[]> {
    const all = await Promise.all(park.nodes.map((node) => node.authorities()));
    return all.map(({ authorities }) =>
      certificates.map((der) => authorities.find(({ id }) => id === fingerprint(der))?.phase ?? "none").join(" "),
    );
  }

  async function untilAll(wanted: string, ...certificates: readonly Uint8Array[]): Promise<void> {
    for (const end = performance.now() + TEST_MS / 3; performance.now() < end; await Bun.sleep(50))
      if ((await phases(...certificates)).every((phase) => phase === wanted)) return;
    expect(await phases(...certificates)).toEqual(park.nodes.map(() => wanted));
  }

  test(
    "Fleet takes what a stolen root brought in out of every bundle when it hears that the root was revoked, and converges",
    async () => {
      const [first, other] = park.nodes as [ParkNode, ParkNode, ParkNode];
      const store = openStore(storePath(first.stateDir));
      const options = { stateDir: first.stateDir, store, keys: openNodeKeys(first.stateDir), now: Date.now() };
      const [own] = listRoots(options);
      if (own === undefined) throw new Error("the first node has a root");
      const root = openRootKey(own.certificate, options);
      const [stolen, child] = [makeRoot("stolen"), makeRoot("child")];
      const certificates = {
        own: own.certificate,
        stolen: await makeRootCertificate("stolen", stolen, TRUST_DOMAIN),
        child: await makeRootCertificate("child", child, TRUST_DOMAIN),
      };
      const known = (name: keyof typeof certificates, state: RootEntry["state"] = "trusted"): KnownRoot => ({
        ...{ certificate: certificates[name], state, keep: [] },
      });
      const say = async (by: Signer, roots: readonly KnownRoot[], after?: Uint8Array) => {
        const held = after === undefined ? undefined : parseBody("roots", { body: after }).roots;
        const body = nextRecord(held, roots, { trustDomain: TRUST_DOMAIN, author: by });
        if (body === undefined) throw new Error("it says nothing new");
        const draft = { trustDomain: TRUST_DOMAIN, kind: "bundle", name: "domain", time: Date.now(), body } as const;
        await other.say([signStatement({ ...draft, revision: after === undefined ? 1 : 2 }, by).bytes]);
        return body;
      };
      try {
        const came = await say(root, [known("own"), known("stolen")]);
        await say(stolen, [known("child")], came);
        await untilAll("published published", certificates.stolen, certificates.child);
        // By whoever has the root's key and has not heard of the child.
        await say(root, [known("stolen", "revoked")], came);
        await untilAll("revoked revoked", certificates.stolen, certificates.child);
      } finally {
        root.close();
        store.close();
      }
      // The root's own node tells the fleet of its roots when it starts.
      await first.stop();
      await first.start();
      await park.apply(identityDocument(1), first);
      const views = await park.settle();
      for (const { roots } of views) expect(roots.map(({ state }) => state)).toEqual(["trusted", "revoked"]);
      const events = await other.events();
      expect(events.some(({ event, subject }) => event === "no longer stands" && subject.startsWith("bundle/"))).toBe(
        true,
      );
    },
    TEST_MS,
  );
});
