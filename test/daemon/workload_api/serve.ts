// A Workload API in a process of its own that changes its rules without end, so that it can be killed in the middle of its work. Run by tests as a program.

import { identityRule, openEndpoint } from "./endpoint.ts";

const ROUND_MS = 5;
const [, , folder = "", exe = ""] = process.argv;
const rule = (count: number) => identityRule(`app-${process.pid}-${count}`, { exe });
const endpoint = await openEndpoint(folder, rule(0));
for (let count = 1; ; count++) {
  await Bun.sleep(ROUND_MS);
  endpoint.setRules(rule(count));
}
