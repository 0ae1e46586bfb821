// What a process with an identity takes of the daemon's heap: the whole daemon over a module in memory, in a process of its own. Prints bytes.

import { heapStats } from "bun:jsc";
import { buildHouse, CURL_RULES, settle } from "../daemon/house.ts";

/** Before what is weighed: caches and tables that the first ones fill. */
const FIRST = 1000;
const WEIGHED = 2000;
const BATCH = 100;
const BATCH_LIMIT_MS = 10_000;
const ARGV = ["curl", "-sS", "http://10.1.2.3:8080/"];

const house = await buildHouse();
house.writeRules("curl.yaml", CURL_RULES);
const daemon = await house.start();
await admit(FIRST);
const before = await weigh();
await admit(WEIGHED);
const after = await weigh();
if (daemon.status().processes.identified !== FIRST + WEIGHED) throw new Error("not every process has an identity");
process.stdout.write(`${Math.round((after - before) / WEIGHED)}\n`);
await house.leave();

async function admit(count: number): Promise<void> {
  for (let begun = 0; begun < count; begun += BATCH) {
    for (let each = 0; each < BATCH; each++)
      house.kernel.exec({ argv: `${ARGV.join("\0")}\0`, cgroup: "/system.slice/agent.service" });
    const deadline = performance.now() + BATCH_LIMIT_MS;
    const waiting = () => [...house.kernel.processes.values()].filter(({ state }) => state !== "ready");
    for (await settle(); waiting().length > 0; await settle())
      if (performance.now() > deadline) throw new Error(explain(waiting()));
    // What the module in memory and the test's log keep is not the daemon's.
    house.kernel.received.length = 0;
    house.kernel.processes.clear();
    house.log.length = 0;
  }
}

function explain(waiting: readonly { readonly state: string; readonly facts: { readonly pid: number } }[]): string {
  const states = waiting.slice(0, 5).map(({ state, facts }) => `${facts.pid} ${state}`);
  return `${waiting.length} processes have no identity (${states.join(", ")}): ${JSON.stringify(house.log.slice(-5))}`;
}

async function weigh(): Promise<number> {
  for (let round = 0; round < 5; round++) {
    Bun.gc(true);
    await Bun.sleep(20);
  }
  const { heapSize, extraMemorySize } = heapStats();
  return heapSize + extraMemorySize;
}
