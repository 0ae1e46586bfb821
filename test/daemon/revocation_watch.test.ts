// The watch of the state for what other programs write, on a real file and by the machine's own clock.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { watchRevocations } from "../../src/daemon/revocation_watch.ts";
import { openStore } from "../../src/store.ts";
import { scratchDirectories } from "../scratch.ts";

const scratch = scratchDirectories();
const ROUNDS = 9;

test("watchRevocations() tells of another program's writes well before it would look by itself, and not of our own", async () => {
  const path = join(scratch(), "state.db");
  const store = openStore(path);
  store.migrate("test", ["CREATE TABLE note (text TEXT) STRICT"]);
  const other = new Database(path);
  const stopping = new AbortController();
  let told = 0;
  let wake: () => void = () => {};
  const onChange = () => {
    told += 1;
    wake();
  };
  const loop = watchRevocations({ store, clock: systemClock, onChange }, stopping.signal);
  const took: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    store.prepare("INSERT INTO note VALUES ('ours')").run();
    await Bun.sleep(60);
    const begun = performance.now();
    const heard = new Promise<void>((resolve) => {
      wake = resolve;
    });
    other.exec("INSERT INTO note VALUES ('theirs')");
    await heard;
    took.push(performance.now() - begun);
  }
  stopping.abort();
  await loop;
  other.close();
  store.close();
  expect(told).toBe(ROUNDS);
  // The middle one: on a busy machine one or another takes its time.
  expect(took.sort((a, b) => a - b)[ROUNDS >> 1]).toBeLessThan(100);
});
