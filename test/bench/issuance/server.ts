// The Workload API of the issuance bench, in a process of its own so that its processor time is its own. Obeys lines on standard input, answers each with one of JSON.

import { createInterface } from "node:readline";
import { identityRule, openEndpoint } from "../../daemon/workload_api/endpoint.ts";

/** No bound is to be met: it is what one core can do that is asked. */
const BOUNDS = { connections: 10_000, calls: 100_000, burst: 1e9, callsPerSecond: 1e9 };

const [, , folder = "", ...clients] = process.argv;
const rules = (id: string, ttl = "1h") =>
  clients.map((exe, index) => identityRule(`${id}${index}`, { exe, ttl })).join("---\n");
/** Of processor time: reading rules costs the same for one stream and for thousands, and is no part of what an SVID costs. */
let reading = 0;
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const endpoint = await openEndpoint(folder, rules("bench"), {
  limits: { process: BOUNDS, user: BOUNDS, connections: 10_000 },
});

const OBEY: Readonly<Record<string, (word: string, ttl?: string) => object>> = {
  usage: () => ({ cpuSeconds: cpuSeconds() - reading, issued: endpoint.api.svids.issued }),
  rules(word, ttl) {
    const before = cpuSeconds();
    const putInForce = endpoint.readRules(rules(word, ttl));
    reading += cpuSeconds() - before;
    putInForce();
    return {};
  },
};

process.stdout.write(`${JSON.stringify({ path: endpoint.path })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const [verb = "", word = "", ttl] = line.split(" ");
  process.stdout.write(`${JSON.stringify(OBEY[verb]?.(word, ttl) ?? {})}\n`);
}
await endpoint.close();
