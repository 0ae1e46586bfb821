// Every way in which an issuing node refuses who comes with a token: the code that the machine is told, and the one event that the issuing node keeps.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { hash } from "node:crypto";
import { systemClock } from "../../src/clock.ts";
import { openNats } from "../../src/federation/nats.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { parseToken } from "../../src/federation/token.ts";
import type { Transport } from "../../src/federation/transport.ts";
import { openFleetPark, type Park, type ParkNode, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, type NatsServer, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
const HOUR_MS = 3_600_000;
const PREFIX = "riprap-join-";
/** Of a token by ParkNode.token(). */
const LIFETIME_MS = 600_000;

/** The token with other octets in one of its fields, and a checksum that is right again: what an attacker would write. */
function altered(text: string, field: Uint8Array): string {
  const bytes = Buffer.from(text.slice(PREFIX.length), "base64url");
  const body = bytes.subarray(0, -4);
  const at = body.indexOf(field);
  if (at < 0) throw new RangeError("the field is in the token");
  body[at] = (body[at] ?? 0) ^ 1;
  const checksum = hash("sha256", body, "buffer").subarray(0, 4);
  return PREFIX + Buffer.concat([body, checksum]).toString("base64url");
}

interface Refusal {
  readonly code: string;
  readonly how: string;
  /** Rejects with what the machine is told. */
  come(): Promise<unknown>;
}

describe.skipIf(NATS_SERVER === null)("a refusal (skipped without nats-server)", () => {
  let nats: NatsPark;
  let server: NatsServer;
  let park: Park;
  let issuer: ParkNode;
  let tap: Transport;
  const requests: { readonly subject: string; readonly data: Uint8Array }[] = [];

  beforeAll(async () => {
    if (NATS_SERVER === null) return;
    nats = openPark();
    server = await nats.single();
    park = await openFleetPark([server], 1, 5);
    issuer = park.nodes[0] as ParkNode;
    tap = openNats({ servers: [server.url], name: "tap", clock: systemClock, random: Math.random });
    await new Promise<void>((resolve) => tap.onState(({ phase }) => phase === "connected" && resolve()));
    tap.subscribe(fleetSubjects(TRUST_DOMAIN).allJoins, ({ subject, data }) => void requests.push({ subject, data }));
  }, TEST_MS);

  afterAll(async () => {
    await tap?.close();
    await park?.leave();
    await nats?.leave();
  }, TEST_MS);

  let machines = 0;
  const come = (token: string, skewMs = 0) => {
    machines += 1;
    return issuer.join(token, { nodeName: `machine-${machines}`, elsewhere: true, skewMs });
  };

  const REFUSALS: readonly Refusal[] = [
    {
      code: "token_unknown",
      how: "the token was never made",
      come: async () => {
        const token = await issuer.token();
        return come(altered(token, Buffer.from(parseToken(token).id, "hex")));
      },
    },
    {
      code: "join_forged",
      how: "its secret is a guess",
      come: async () => {
        const token = await issuer.token();
        return come(altered(token, parseToken(token).secret));
      },
    },
    {
      code: "join_wrong_root",
      how: "the token names a root that is not this trust domain's",
      come: async () => {
        const token = await issuer.token();
        return come(altered(token, Buffer.from(parseToken(token).rootFingerprint, "hex")));
      },
    },
    {
      code: "token_revoked",
      how: "a person revoked it",
      come: async () => {
        const token = await issuer.token();
        await issuer.revoke({ type: "token", value: parseToken(token).id });
        return come(token);
      },
    },
    {
      code: "token_spent",
      how: "another machine came with it first",
      come: async () => {
        const token = await issuer.token();
        await come(token);
        return come(token);
      },
    },
    {
      code: "join_replayed",
      how: "the broker sends a request that was answered once more",
      come: async () => {
        await come(await issuer.token());
        const last = requests.at(-1);
        if (last === undefined) throw new Error("the tap heard nothing");
        await tap.request(last.subject, last.data, 5000);
        throw Object.assign(new Error("nobody is told"), { code: "join_replayed" });
      },
    },
    {
      code: "join_malformed",
      how: "a client of the broker sends what is no request",
      come: async () => {
        await tap.request(requests.at(-1)?.subject ?? "", Buffer.from("hello"), 5000);
        throw Object.assign(new Error("nobody is told"), { code: "join_malformed" });
      },
    },
    {
      code: "join_name",
      how: "the token is for another name",
      come: async () => come(await issuer.token({ nodeName: "somebody-else" })),
    },
    {
      code: "node_exists",
      how: "a node of this name is there with another key",
      come: async () => issuer.join(await issuer.token(), { elsewhere: true }),
    },
    {
      code: "node_revoked",
      how: "its name is of a node that is revoked",
      come: async () => {
        await issuer.revoke({ type: "node", value: "machine-gone" });
        return issuer.join(await issuer.token(), { elsewhere: true, nodeName: "machine-gone" });
      },
    },
    {
      code: "join_clock",
      how: "its clock is an hour fast, past the token's end by its own reckoning",
      come: async () => come(await issuer.token(), HOUR_MS),
    },
    {
      code: "join_clock",
      how: "its clock is an hour slow",
      come: async () => come(await issuer.token(), -HOUR_MS),
    },
    {
      code: "token_expired",
      how: "its time is over by both clocks",
      come: async () => {
        const token = await issuer.token();
        await issuer.stop();
        issuer.skewMs = LIFETIME_MS + 1000;
        await issuer.start();
        await park.settle();
        return come(token, issuer.skewMs);
      },
    },
  ];

  test.each(REFUSALS.map((refusal) => [refusal.code, refusal.how, refusal] as const))(
    "Admitter.answer() keeps one event, %s, when %s",
    async (code, _how, { come: attempt }) => {
      const before = (await issuer.events()).length;
      await expect(attempt()).rejects.toMatchObject({ code });
      const since = (await issuer.events()).slice(before);
      const refused = since.filter(({ event }) => event === "join refused").map(({ detail }) => detail.split(":")[0]);
      expect(refused).toEqual([code]);
    },
    TEST_MS,
  );

  test(
    "joinFleet() says that the token is over by its own clock when no issuing node answers",
    async () => {
      const token = await issuer.token();
      await issuer.stop();
      // It listens and does not answer, for which a machine would wait.
      await tap.close();
      await expect(come(token, HOUR_MS + issuer.skewMs)).rejects.toMatchObject({
        code: "token_expired",
        message: expect.stringContaining("no issuing node answers"),
      });
      await issuer.start();
    },
    TEST_MS,
  );
});
