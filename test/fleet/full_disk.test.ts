// A node whose disk takes nothing any more: what is revoked is refused there all the same, the node goes on, and keeps it when the disk is mended.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { storePath } from "../../src/store.ts";
import { identityDocument, openFleetPark, type Park, TRUST_DOMAIN } from "./fleet_park.ts";
import { NATS_SERVER, type NatsPark, openPark } from "./nats_server.ts";

const TEST_MS = 60_000;
let nats: NatsPark;
let park: Park;

beforeAll(async () => {
  if (NATS_SERVER === null) return;
  nats = openPark();
  park = await openFleetPark([await nats.single({})], 2, 11);
}, TEST_MS);

afterAll(async () => {
  await park?.leave();
  await nats?.leave();
}, TEST_MS);

/** What a full disk does to a statement of SQL, without filling one. */
function setFull(stateDir: string, isFull: boolean): void {
  const database = new Database(storePath(stateDir));
  for (const table of ["fleet_statement", "fleet_event"]) {
    if (isFull)
      database.exec(
        `CREATE TRIGGER full_${table} BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`,
      );
    else database.exec(`DROP TRIGGER full_${table}`);
  }
  database.close();
}

describe.skipIf(NATS_SERVER === null)("a node without a disk (skipped without nats-server)", () => {
  test(
    "Fleet has a revocation in force that it cannot keep, says so, and keeps it later with all that it missed",
    async () => {
      const [first, second] = park.nodes;
      if (first === undefined || second === undefined) throw new Error("a park of two");
      const id = `spiffe://${TRUST_DOMAIN}/w/1`;
      const isRevoked = ({ revocations }: { revocations: readonly { target: string }[] }) =>
        revocations.some(({ target }) => target === `id:${id}`);
      setFull(second.stateDir, true);
      await first.revoke({ type: "id", value: id });
      await park.apply(identityDocument(1), first);
      await park.until("it is refused there", (views) => views.every(isRevoked));
      expect((await second.status()).generation.number).toBe(0);
      expect(second.log.some((line) => line.includes("could not be kept"))).toBe(true);
      setFull(second.stateDir, false);
      await park.settle();
      await second.stop();
      await second.start();
      const view = await second.status();
      expect(isRevoked(view)).toBe(true);
      expect(view.generation.number).toBe(1);
      // It had not fallen silent.
      await park.until("it is heard", (views) => views.every(({ nodes }) => nodes.every(({ isCurrent }) => isCurrent)));
    },
    TEST_MS,
  );
});
