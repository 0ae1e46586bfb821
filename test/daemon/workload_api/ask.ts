// A workload of its own process: waits for a line on standard input, makes one call, prints the answer, and waits again. Run by tests as a program.

import { createInterface } from "node:readline";
import { Inbox, openClient } from "./endpoint.ts";

const [, , path = ""] = process.argv;
const client = openClient(path);
for await (const line of createInterface({ input: process.stdin })) {
  const [method = "", request] = JSON.parse(line) as [string, object?];
  const inbox = request === undefined ? new Inbox(client.stream(method)) : undefined;
  const call = inbox === undefined ? client.unary(method, request ?? {}) : inbox.next();
  const answer = await call.then(
    (reply) => ({ code: 0, id: (reply["svids"] as { spiffe_id: string }[])[0]?.spiffe_id }),
    ({ code, details }) => ({ code, details }),
  );
  inbox?.cancel();
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
client.close();
