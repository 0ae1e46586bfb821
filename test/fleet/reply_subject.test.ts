// Who asks says where the answer goes, and the answer is published with the rights of the one who gives it: nowhere but to an inbox.

import { describe, expect, test } from "bun:test";
import { connect, type NatsConnection } from "nats";
import { systemClock } from "../../src/clock.ts";
import { createNkey, openNats } from "../../src/federation/nats.ts";
import { natsConfig } from "../../src/federation/nats_config.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { NATS_SERVER, openPark } from "./nats_server.ts";

const DOMAIN = "example.org";
const SUBJECTS = fleetSubjects(DOMAIN);
const JOIN = SUBJECTS.join("abc");
const ANSWER = new TextEncoder().encode("refused");

describe.skipIf(NATS_SERVER === null)("a reply subject (skipped without nats-server)", () => {
  test("makes no stranger's word an entry of the broker's store, under the printed configuration", async () => {
    const nkey = createNkey();
    const users = [{ node: "iris", nkey: nkey.publicKey, isIssuer: true }];
    const park = openPark();
    const config = natsConfig({ trustDomain: DOMAIN, users, hasStore: true, hasEnrolment: true });
    const { url } = await park.single({ jetstream: true, config });
    const proof = { kind: "nkey", seed: nkey.seed } as const;
    const place = { clock: systemClock, random: Math.random, inboxPrefix: SUBJECTS.inbox("iris") };
    const iris = openNats({ servers: [url], name: "iris", proof, ...place });
    let stranger: NatsConnection | undefined;
    try {
      await new Promise<void>((resolve) => iris.onState(({ phase }) => phase === "connected" && resolve()));
      iris.subscribe(JOIN, (message) => message.respond(ANSWER));
      const store = await iris.store(SUBJECTS.store);
      expect(await store?.put("known", new Uint8Array(5))).toBe(true);
      stranger = await connect({ servers: url, inboxPrefix: SUBJECTS.joinInbox });
      for (const key of ["known", "new"])
        stranger.publish(JOIN, new Uint8Array(1), { reply: `$KV.${SUBJECTS.store}.${key}` });
      const answer = await stranger.request(JOIN, new Uint8Array(1), { timeout: 5000 });
      expect(answer.data).toEqual(ANSWER);
      const values = await Array.fromAsync(store?.list(AbortSignal.timeout(5000)) ?? []);
      expect(values.map(({ length }) => length)).toEqual([5]);
    } finally {
      await stranger?.close();
      await iris.close();
      await park.leave();
    }
  }, 30_000);
});
