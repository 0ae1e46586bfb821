// The callers of the issuance bench, in a process of their own: each line on standard input is one task, answered by one line of JSON.

import { createInterface } from "node:readline";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { callWorkloadApi } from "../../../src/cli/workload_client.ts";

const FETCH_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
/** `relays`: a folder of sockets, each of a process that connects from there to the Workload API. */
const [, , path = "", relays = ""] = process.argv;
const idle: AbortController[] = [];

/** As many callers at once as there are connections, each asking again as soon as it is answered. */
async function during(seconds: number, callers: number, ask: (client: Client) => Promise<void>) {
  let count = 0;
  const begun = performance.now();
  const end = begun + 1000 * seconds;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      const client = new Client(`unix://${path}`, credentials.createInsecure());
      while (performance.now() < end) {
        await ask(client);
        count += 1;
      }
      client.close();
    }),
  );
  return { count, seconds: (performance.now() - begun) / 1000 };
}

const same = (bytes: Buffer) => bytes;

/** The one call that gives a new SVID and ends: a stream that is opened and broken off, again and again, is an attack to HTTP/2. */
function fetchOne(client: Client): Promise<void> {
  const request = Buffer.from("1a0764656661756c74", "hex"); // DiscoveryRequest { resource_names: "default" }
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(FETCH_SECRETS, same, same, request, (error) => (error ? reject(error) : resolve()));
  });
}

function fetchJwt(client: Client): Promise<void> {
  const request = Buffer.from("0a0470656572", "hex"); // JWTSVIDRequest { audience: "peer" }
  const metadata = new Metadata();
  metadata.set("workload.spiffe.io", "true");
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest("/SpiffeWorkloadAPI/FetchJWTSVID", same, same, request, metadata, (error) =>
      error ? reject(error) : resolve(),
    );
  });
}

/** Opens streams that stay: each on a connection of its own. Counts what each is told. */
async function hold(count: number, pathOf: (index: number) => string): Promise<void> {
  const opened: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    const stop = new AbortController();
    idle.push(stop);
    opened.push(
      new Promise((resolve) => {
        void (async () => {
          for await (const message of callWorkloadApi(
            { path: pathOf(index) },
            { method: "FetchX509SVID", signal: stop.signal },
          )) {
            resolve();
            told(message.length);
          }
        })();
      }),
    );
    // The queue of a listening socket is short.
    if (index % 64 === 63) await Promise.all(opened);
  }
  await Promise.all(opened);
}

let heard = 0;
let awaited: { readonly count: number; readonly resolve: () => void } | undefined;

function told(length: number): void {
  if (length > 0) heard += 1;
  if (awaited !== undefined && heard >= awaited.count) awaited.resolve();
}

const TASKS: Readonly<Record<string, (seconds: number, count: number) => Promise<object>>> = {
  x509: (seconds, callers) => during(seconds, callers, fetchOne),
  jwt: (seconds, callers) => during(seconds, callers, fetchJwt),
  async hold(_seconds, count) {
    await hold(count, () => path);
    return { streams: idle.length };
  },
  async hold_relayed(_seconds, count) {
    await hold(count, (index) => `${relays}/${index}`);
    return { streams: idle.length };
  },
  /** Every open stream is told something new once; answers when the last one was, with the time of day. */
  async heard(_seconds, rounds) {
    const count = rounds * idle.length;
    if (heard < count)
      await new Promise<void>((resolve) => {
        awaited = { count, resolve };
      });
    return { at: performance.timeOrigin + performance.now() };
  },
  async drop() {
    for (const stop of idle.splice(0)) stop.abort();
    heard = 0;
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb = "", seconds = "0", count = "0"] = line.split(" ");
  const task = TASKS[verb];
  if (task === undefined) throw new RangeError(`no task ${verb}`);
  process.stdout.write(`${JSON.stringify(await task(Number(seconds), Number(count)))}\n`);
}
process.exit(0);
