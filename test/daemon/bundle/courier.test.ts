// A partner's bundle as it comes over the broker: what is taken after a person's pin, and each thing that is refused, by its code.

import { beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { hash } from "node:crypto";
import { fingerprintBundle } from "../../../src/bundle_fingerprint.ts";
import { initTrustDomain, type NodeAuthority, openAuthority } from "../../../src/ca.ts";
import { Courier } from "../../../src/daemon/bundle/courier.ts";
import { openSequenceStore } from "../../../src/daemon/bundle/sequence.ts";
import { BundleBook } from "../../../src/daemon/bundle.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { BUNDLE_MESSAGE_MAX, parseBundleMessage, writeBundleMessage } from "../../../src/federation/bundle_message.ts";
import { openEd25519 } from "../../../src/federation/curve.ts";
import { fleetSubjects } from "../../../src/federation/subject.ts";
import type { Message, Transport } from "../../../src/federation/transport.ts";
import { parseResources } from "../../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../../src/spiffe_id.ts";
import { openStore, type Store, storePath } from "../../../src/store.ts";
import type { TrustBundle } from "../../../src/trust_bundle.ts";
import { ManualClock } from "../../manual_clock.ts";
import { foreignDomain, trustDomain } from "../../resource/sample.ts";
import { scratchDirectories } from "../../scratch.ts";

// A busy machine makes and verifies signatures slowly.
setDefaultTimeout(30_000);

const scratch = scratchDirectories();
const PARTNER = TrustDomain.parse("partner.test");
const SUBJECT = fleetSubjects(PARTNER.name).bundle;

/** A node that speaks for a trust domain of its own, over a transport that keeps what it says. */
interface Side {
  readonly authority: NodeAuthority;
  readonly store: Store;
  readonly said: Message[];
  bundle: TrustBundle;
  courier: Courier;
  book: BundleBook;
}

const clock = new ManualClock();
let sides: { ours: Side; partner: Side; other: Side };

beforeAll(async () => {
  const [ours, partner, other] = await Promise.all(
    [trustDomain.name, PARTNER.name, "other.test"].map((name) => openSide(name)),
  );
  sides = { ours, partner, other } as typeof sides;
});

async function openSide(name: string): Promise<Side> {
  const stateDir = scratch();
  await initTrustDomain({ stateDir, trustDomain: name, nodeName: "node-1", clock });
  const store = openStore(storePath(stateDir));
  const authority = openAuthority({ stateDir, clock, store });
  const bundle = bundleOf(name, authority.bundle);
  return { authority, store, said: [], bundle, ...roomsOf(authority, store, () => bundle) };
}

function bundleOf(name: string, x509: readonly Uint8Array[]): TrustBundle {
  return { trustDomain: TrustDomain.parse(name), x509, jwt: [], sequence: 1n, refreshHintSeconds: undefined };
}

function roomsOf(authority: NodeAuthority, store: Store, own: () => TrustBundle) {
  const log = createLog({ level: "debug", clock, write: () => undefined });
  const book = new BundleBook({ store, clock, log });
  const sequences = openSequenceStore(store);
  const parts = { book, authority, clock, log, random: () => 0.5, sequences, own, isSpeaker: () => true };
  return { book, courier: new Courier(parts) };
}

function transportOf(said: Message[]): Transport {
  return {
    state: { phase: "connected", server: "nats://test", hasStore: false },
    publish(subject, data) {
      said.push({ subject, data, respond: () => undefined });
      return true;
    },
    subscribe: () => ({ close: () => undefined }),
    request: () => Promise.reject(new Error("nobody is asked")),
    store: () => Promise.resolve(undefined),
    onState: () => undefined,
    refused: [],
    onRefusal: () => undefined,
    close: () => Promise.resolve(),
  };
}

/** What a side says of its bundle now. */
async function sayOf(side: Side, over: Partial<TrustBundle> = {}): Promise<Uint8Array> {
  const bundle = { ...side.bundle, ...over };
  const { courier } = roomsOf(side.authority, side.store, () => bundle);
  const said: Message[] = [];
  courier.connect(transportOf(said));
  const stop = new AbortController();
  const run = courier.run(stop.signal);
  stop.abort();
  await run;
  const [message] = said;
  if (message === undefined) throw new Error("nothing was said");
  expect(message.subject).toBe(fleetSubjects(bundle.trustDomain.name).bundle);
  return message.data;
}

function configure(spec: Record<string, unknown> = {}): void {
  const text = JSON.stringify(foreignDomain("partner", { trustDomain: PARTNER.name, ...spec }));
  sides.ours.book.configure(parseResources([{ file: "rules.yaml", text }], { trustDomain }).trustDomains);
}

/** How often each code was counted; `taken` among them. */
function counts(): Record<string, number> {
  const { counters, refused } = sides.ours.courier;
  return Object.fromEntries([...refused, ...Object.entries(counters)].filter(([, count]) => count > 0));
}

const hear = (data: Uint8Array, subject = SUBJECT) => sides.ours.courier.hear(PARTNER, { subject, data });
const rootOf = ({ bundle }: Side) => hash("sha256", bundle.x509[0] as Uint8Array, "hex");

/** A message that the partner's node signs, but for what is given. */
async function resign(data: Uint8Array, over: Partial<ReturnType<typeof parseBundleMessage>>, side = sides.partner) {
  const { issueWithNewKeys } = await import("../../../src/ca.ts");
  const { createPrivateKey, sign } = await import("node:crypto");
  const spiffeId = SpiffeId.parse(`spiffe://${side.authority.trustDomain}/riprap/bundle-endpoint`);
  const [svid] = issueWithNewKeys(side.authority, [{ spiffeId, lifetimeSeconds: 600, context: {} }]);
  if (svid === undefined) throw new Error("no SVID");
  const key = createPrivateKey({ key: Buffer.from(svid.privateKey), format: "der", type: "pkcs8" });
  return writeBundleMessage({ ...parseBundleMessage(data), chain: svid.chain, ...over }, (bytes) =>
    Uint8Array.from(sign("sha256", bytes, key)),
  );
}

beforeEach(async () => {
  const { authority, store } = sides.ours;
  sides.ours.book.configure([]);
  Object.assign(
    sides.ours,
    roomsOf(authority, store, () => sides.ours.bundle),
  );
  await clock.advance(1000);
});

describe("Courier", () => {
  test("hear() takes nothing before a person has pinned the partner, and then what the pin fits", async () => {
    configure();
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ unpinned: 1 });
    expect(sides.ours.courier.faultOf(PARTNER)).toContain("riprap bundle pin partner.test");
    sides.ours.book.pin(PARTNER, "0".repeat(64));
    await clock.advance(1000);
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ unpinned: 1, wrong_pin: 1 });
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ unpinned: 1, wrong_pin: 1, taken: 1 });
    expect(sides.ours.book.held(PARTNER)).toMatchObject({ source: "fleet" });
    expect(sides.ours.courier.faultOf(PARTNER)).toBeUndefined();
    await clock.advance(1000);
    hear(await sayOf(sides.partner));
    expect(counts()).toMatchObject({ taken: 1, unchanged: 1 });
  });

  test("hear() takes a pin of the whole bundle, from the command or from the resource", async () => {
    const fingerprint = fingerprintBundle(sides.partner.bundle);
    configure({ bundle: { fingerprint: `sha256:${"0".repeat(64)}` } });
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ wrong_pin: 1 });
    configure({ bundle: { fingerprint } });
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ wrong_pin: 1, taken: 1 });
    configure();
    sides.ours.book.configure([]);
    configure();
    expect(() => sides.ours.book.pin(PARTNER, "no fingerprint")).toThrow(
      expect.objectContaining({ code: "pin_invalid" }),
    );
    sides.ours.book.pin(PARTNER, fingerprint);
    await clock.advance(1000);
    hear(await sayOf(sides.partner));
    expect(counts()).toMatchObject({ taken: 2 });
  });

  test("hear() takes the next bundle by what is held, and refuses one that another root signs, however it is pinned", async () => {
    configure();
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    hear(await sayOf(sides.partner));
    const stranger = await openSide(PARTNER.name);
    sides.ours.book.pin(PARTNER, rootOf(stranger));
    await clock.advance(1000);
    hear(await sayOf(stranger));
    expect(counts()).toEqual({ taken: 1, chain_refused: 1 });
    await clock.advance(1000);
    hear(await sayOf(sides.partner, { x509: [...sides.partner.bundle.x509, ...stranger.bundle.x509] }));
    expect(counts()).toEqual({ taken: 2, chain_refused: 1 });
    expect(sides.ours.book.bundleOf(PARTNER)?.x509).toHaveLength(2);
    // Now the partner has brought it in itself.
    await clock.advance(1000);
    hear(
      await sayOf(stranger, { x509: [...sides.partner.bundle.x509, ...stranger.bundle.x509], refreshHintSeconds: 5 }),
    );
    expect(counts()["chain_refused"]).toBe(1);
  });

  test("hear() refuses what was altered, and what its author's key did not sign", async () => {
    configure();
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    const data = await sayOf(sides.partner);
    for (let at = 0; at < data.length; at += 7) {
      const altered = Uint8Array.from(data);
      altered[at] = (altered[at] ?? 0) ^ 1;
      if (at % 70 === 0) await clock.advance(1000);
      hear(altered);
    }
    await clock.advance(1000);
    for (const cut of [0, 1, 40, data.length - 1]) hear(data.subarray(0, cut));
    const voice = openEd25519(new Uint8Array(32));
    hear(writeBundleMessage(parseBundleMessage(data), (bytes) => voice.sign(bytes)));
    expect(sides.ours.courier.counters).toEqual({ said: 0, taken: 0, unchanged: 0 });
    expect(counts()["forged"]).toBeGreaterThan(10);
    expect(counts()["malformed"]).toBeGreaterThan(3);
    expect(sides.ours.book.bundleOf(PARTNER)).toBeUndefined();
  });

  test("hear() refuses another subject, another trust domain's message, and another ID of the same", async () => {
    configure();
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    const data = await sayOf(sides.partner);
    hear(data, fleetSubjects("other.test").bundle);
    hear(await resign(data, { subject: "riprap.partner/test.gossip.x" }));
    // What another domain says to all, put on the partner's subject; and the partner's document in another's name.
    hear(await sayOf(sides.other));
    hear(await resign(data, {}, sides.other));
    expect(counts()).toEqual({ wrong_subject: 3, chain_refused: 1 });
    const { issueWithNewKeys } = await import("../../../src/ca.ts");
    const { createPrivateKey, sign } = await import("node:crypto");
    const request = { spiffeId: "spiffe://partner.test/w/shop", lifetimeSeconds: 600, context: {} };
    const [svid] = issueWithNewKeys(sides.partner.authority, [request]);
    const key = createPrivateKey({ key: Buffer.from(svid?.privateKey ?? []), format: "der", type: "pkcs8" });
    const chain = svid?.chain ?? [];
    hear(
      writeBundleMessage({ ...parseBundleMessage(data), chain }, (bytes) =>
        Uint8Array.from(sign("sha256", bytes, key)),
      ),
    );
    expect(counts()).toEqual({ wrong_subject: 3, chain_refused: 2 });
    hear(await resign(data, { document: JSON.stringify({ keys: 7 }) }));
    expect(counts()["malformed"]).toBe(1);
  });

  test("hear() refuses a replay, an old message, one from the future, and one that goes back in its sequence", async () => {
    configure();
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    const first = await sayOf(sides.partner);
    hear(first);
    hear(first);
    expect(counts()).toEqual({ taken: 1, replayed: 1 });
    hear(await resign(first, { time: clock.now() + 120_000 }));
    expect(counts()).toMatchObject({ from_future: 1 });
    await clock.advance(1000);
    const extra = await openSide(PARTNER.name);
    const later = await sayOf(sides.partner, { x509: [...sides.partner.bundle.x509, ...extra.bundle.x509] });
    hear(later);
    // Signed anew by the partner's key, with what it said before: only the number inside tells.
    const { document } = parseBundleMessage(first);
    await clock.advance(1000);
    hear(await resign(first, { time: clock.now(), document }));
    expect(counts()).toMatchObject({ taken: 2, not_taken: 1 });
    expect(sides.ours.courier.faultOf(PARTNER)).toContain("goes back in time");
    await clock.advance(400_000);
    hear(later);
    expect(counts()).toMatchObject({ stale: 1 });
  });

  test("hear() refuses what is too large, of a domain that no rule names, and of one that has an endpoint", async () => {
    hear(new Uint8Array(BUNDLE_MESSAGE_MAX + 1));
    hear(await sayOf(sides.partner));
    configure({ endpoint: { url: "https://partner.test/bundle", profile: "https_web" } });
    hear(await sayOf(sides.partner));
    expect(counts()).toEqual({ too_large: 1, unknown_domain: 1, has_endpoint: 1 });
  });

  test("hear() looks at so many messages in a second and at no more, and goes on in the next", async () => {
    configure();
    sides.ours.book.pin(PARTNER, rootOf(sides.partner));
    for (let i = 0; i < 100; i++) hear(new Uint8Array(10));
    const data = await sayOf(sides.partner);
    hear(data);
    expect(counts()).toEqual({ malformed: 16, too_often: 85 });
    await clock.advance(1000);
    hear(data);
    expect(counts()).toMatchObject({ taken: 1 });
  });

  test("hear() listens to one partner when another says too much", async () => {
    configure();
    const noisy = TrustDomain.parse("noisy.test");
    const subject = fleetSubjects(noisy.name).bundle;
    for (let i = 0; i < 100; i++) sides.ours.courier.hear(noisy, { subject, data: new Uint8Array(10) });
    hear(new Uint8Array(10));
    expect(counts()).toMatchObject({ too_often: 84, malformed: 1 });
  });

  test("run() says what was changed once, with a greater number, and nothing that is too large for a message", async () => {
    const { authority, store } = sides.partner;
    let bundle = sides.partner.bundle;
    const { courier } = roomsOf(authority, store, () => bundle);
    const said: Message[] = [];
    courier.connect(transportOf(said));
    const stop = new AbortController();
    const run = courier.run(stop.signal);
    await clock.advance(2000);
    await clock.advance(2000);
    expect(said).toHaveLength(1);
    const extra = await openSide(PARTNER.name);
    bundle = { ...bundle, x509: [...bundle.x509, ...extra.bundle.x509] };
    await clock.advance(2000);
    expect(said).toHaveLength(2);
    const numbers = said.map(({ data }) => /"spiffe_sequence": (\d+)/.exec(parseBundleMessage(data).document)?.[1]);
    expect(BigInt(numbers[1] ?? 0)).toBeGreaterThan(BigInt(numbers[0] ?? 0));
    bundle = { ...bundle, x509: Array.from({ length: 2000 }, () => extra.bundle.x509[0] as Uint8Array) };
    await clock.advance(2000);
    expect(said).toHaveLength(2);
    stop.abort();
    await clock.advance(2000);
    await run;
  });
});
