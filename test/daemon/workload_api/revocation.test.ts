// What open streams are told when something is revoked, tainted or rotated.

import { afterEach, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { SpiffeId } from "../../../src/spiffe_id.ts";
import { scratchDirectories } from "../../scratch.ts";
import {
  type Endpoint,
  Inbox,
  identityRule,
  openClient,
  openEndpoint,
  type Reply,
  statusOf,
  type WorkloadClient,
} from "./endpoint.ts";

const scratch = scratchDirectories();
const ID = "spiffe://example.org/app";

let endpoint: Endpoint;
let client: WorkloadClient;
const inboxes: Inbox[] = [];

async function open(): Promise<void> {
  endpoint = await openEndpoint(scratch(), identityRule("app"));
  client = openClient(endpoint.path);
}

function listen(method: string): Inbox {
  const inbox = new Inbox(client.stream(method));
  inboxes.push(inbox);
  return inbox;
}

afterEach(async () => {
  for (const inbox of inboxes.splice(0)) inbox.cancel();
  client.close();
  await endpoint.close();
});

function serialOf(reply: Reply): string {
  const [svid] = reply["svids"] as readonly { readonly x509_svid: Buffer }[];
  return new X509Certificate(svid?.x509_svid ?? Buffer.alloc(0)).serialNumber.toLowerCase();
}

test("a stream whose SVID is revoked gets another at once", async () => {
  await open();
  const inbox = listen("FetchX509SVID");
  const serial = serialOf(await inbox.next());
  await endpoint.change((authority) => authority.revoke(serial, "a test says so"));
  const next = serialOf(await inbox.next());
  expect(next).not.toBe(serial);
  expect(endpoint.isRevoked(next)).toBe(false);
});

test("streams of a SPIFFE ID that is revoked end with PermissionDenied, and open again when it is lifted (A-14, A-15)", async () => {
  await open();
  const streams = ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"].map(listen);
  const [first] = await Promise.all(streams.map((inbox) => inbox.next()));
  await endpoint.change((authority) => authority.revokeId(SpiffeId.parse(ID), "a test says so"));
  for (const inbox of streams) expect((await statusOf(inbox.next())).code).toBe(7);
  expect(endpoint.isRevoked(serialOf(first as Reply))).toBe(true);
  expect((await statusOf(listen("FetchX509SVID").next())).code).toBe(7);
  expect((await statusOf(client.unary("FetchJWTSVID", { audience: ["a"] }))).code).toBe(7);
  await endpoint.change((authority) => authority.liftId(SpiffeId.parse(ID)));
  expect(serialOf(await listen("FetchX509SVID").next())).not.toBe(serialOf(first as Reply));
});

test("a JWT-SVID of a SPIFFE ID that is revoked is validated no longer (A-19)", async () => {
  await open();
  const { svids } = (await client.unary("FetchJWTSVID", { audience: ["a"] })) as { svids: { svid: string }[] };
  const ask = () => client.unary("ValidateJWTSVID", { audience: "a", svid: svids[0]?.svid });
  expect(await ask()).toMatchObject({ spiffe_id: ID });
  await endpoint.change((authority) => authority.revokeId(SpiffeId.parse(ID), "a test says so"));
  expect((await statusOf(ask())).code).toBe(3);
});

test("a rotation of roots is pushed to every stream: a new bundle, and under a tainted root a new SVID (A-5, A-16)", async () => {
  await open();
  const [svids, x509, jwt] = ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"].map(listen) as [
    Inbox,
    Inbox,
    Inbox,
  ];
  const before = serialOf(await svids.next());
  const rootsOf = (reply: Reply) => (reply["bundles"] as Record<string, Buffer>)["spiffe://example.org"]?.length ?? 0;
  const one = rootsOf(await x509.next());
  await jwt.next();
  let next = "";
  await endpoint.change(async (_, authorities) => {
    next = (await authorities.prepare("x509")).authority.id;
  });
  expect(rootsOf(await x509.next())).toBeGreaterThan(one);
  const published = serialOf(await svids.next());
  expect(published).not.toBe(before);
  await endpoint.change(async (_, authorities) => {
    await authorities.activate(next, { force: true });
    const [old] = authorities.list().authorities.filter(({ kind, phase }) => kind === "x509" && phase === "retired");
    await authorities.taint(old?.id ?? "");
  });
  expect(serialOf(await svids.next())).not.toBe(published);
  await endpoint.change((_, authorities) => authorities.prepare("jwt"));
  const keys = (reply: Reply) =>
    JSON.parse((reply["bundles"] as Record<string, Buffer>)["spiffe://example.org"]?.toString() ?? "{}");
  expect(keys(await jwt.next()).keys).toHaveLength(2);
});
