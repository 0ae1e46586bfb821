// What becomes of calls and streams when the state cannot be written, and when the daemon is killed in the middle of a renewal.

import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { signedSvids } from "../../../src/ca.ts";
import { callWorkloadApi } from "../../../src/cli/workload_client.ts";
import { readX509Svid } from "../../../src/cli/workload_svid.ts";
import { openStore, storePath } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { scratchDirectories } from "../../scratch.ts";
import { type Endpoint, Inbox, identityRule, openClient, openEndpoint, type Reply, statusOf } from "./endpoint.ts";

const scratch = scratchDirectories();
const HALF_LIFE_MS = 1_800_000;
/** The store waits five seconds for a lock. */
const LOCKED_TEST_MS = 60_000;

let endpoint: Endpoint | undefined;

afterEach(async () => {
  await endpoint?.close();
  endpoint = undefined;
});

/** Steps of a clock until the stream has something. */
async function nextOf(inbox: Inbox, clock: ManualClock): Promise<Reply> {
  let reply: Reply | undefined;
  const next = inbox.next().then((message) => {
    reply = message;
    return message;
  });
  while (reply === undefined) {
    await clock.advance(1000);
    await Bun.sleep(2);
  }
  return next;
}

describe("LiveStreams", () => {
  test(
    "a stream outlives a state that another program keeps locked, and has its next SVID when that is over (E-10)",
    async () => {
      const folder = scratch();
      const clock = new ManualClock();
      endpoint = await openEndpoint(folder, identityRule("app"), { clock });
      const client = openClient(endpoint.path);
      const inbox = new Inbox(client.stream("FetchX509SVID"));
      await inbox.next();
      const other = new Database(storePath(join(folder, "state")));
      other.exec("BEGIN IMMEDIATE");
      expect(await statusOf(client.unary("FetchJWTSVID", { audience: ["a"] }))).toEqual({
        code: 14,
        details: "the node's journal cannot be written now",
      });
      await clock.advance(HALF_LIFE_MS);
      while (!endpoint.log.some((line) => line.includes("could not be renewed"))) await Bun.sleep(5);
      expect([inbox.waiting, endpoint.api.streams]).toEqual([0, 1]);
      other.exec("ROLLBACK");
      other.close();
      await nextOf(inbox, clock);
      client.close();
    },
    LOCKED_TEST_MS,
  );

  test("a stream outlives a full disk, and has its next SVID when there is room (E-10)", async () => {
    const clock = new ManualClock();
    endpoint = await openEndpoint(scratch(), identityRule("app"), { clock });
    const client = openClient(endpoint.path);
    const inbox = new Inbox(client.stream("FetchX509SVID"));
    await inbox.next();
    const { store } = endpoint;
    const pages = store.prepare<{ page_count: number }>("PRAGMA page_count").get()?.page_count ?? 0;
    store.migrate("filler", ["CREATE TABLE filler (bytes BLOB) STRICT"]);
    const fill = store.prepare("INSERT INTO filler VALUES (zeroblob(3000))");
    store.prepare(`PRAGMA max_page_count = ${pages + 8}`).get();
    expect(() => {
      for (;;) fill.run();
    }).toThrow("full");
    // The pages that are there have room for a few rows more.
    const { log } = endpoint;
    const isRefused = () => log.some((line) => line.includes("could not be renewed"));
    for (let renewals = 0; !isRefused(); renewals++) {
      await clock.advance(HALF_LIFE_MS);
      while (inbox.waiting === renewals && !isRefused()) await Bun.sleep(2);
    }
    while (inbox.waiting > 0) await inbox.next();
    store.prepare(`PRAGMA max_page_count = ${pages + 1000}`).get();
    await nextOf(inbox, clock);
    client.close();
  });
});

describe("openWorkloadApi", () => {
  test(
    "openWorkloadApi() after a kill -9 in the middle of renewals knows every SVID that a client was given",
    async () => {
      const folder = scratch();
      const path = join(folder, "workload.sock");
      const stop = new AbortController();
      const given: string[] = [];
      for (let round = 0; round < 3; round++) {
        const command = [process.execPath, join(import.meta.dir, "serve.ts"), folder, process.execPath];
        const server = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
        const end = given.length + 15;
        while (given.length < end) {
          try {
            for await (const message of callWorkloadApi({ path }, { method: "FetchX509SVID", signal: stop.signal })) {
              const { files, serial } = readX509Svid(message);
              expect(new X509Certificate(files.get("svid.pem") as Buffer).serialNumber.toLowerCase()).toBe(serial);
              given.push(serial);
              if (given.length === end) server.kill(9);
            }
          } catch {
            // It has not started yet, or was killed: a client tries again.
            await Bun.sleep(20);
          }
        }
        await server.exited;
      }
      const store = openStore(storePath(join(folder, "state")));
      const journaled = new Map(signedSvids(store, { limit: 10_000 }).map((svid) => [svid.id, svid]));
      expect(given.filter((serial) => !journaled.has(serial))).toEqual([]);
      store.close();
      // The next daemon revokes what is not this process's identity any more; all of it is in its ledger.
      endpoint = await openEndpoint(folder, identityRule("app"));
      const client = openClient(path);
      const inbox = new Inbox(client.stream("FetchX509SVID"));
      await inbox.next();
      endpoint.setRules(identityRule("app", { exe: "/bin/none" }));
      expect((await statusOf(inbox.next())).code).toBe(7);
      for (const serial of given) expect(endpoint.isRevoked(serial)).toBe(true);
      client.close();
    },
    LOCKED_TEST_MS,
  );
});
