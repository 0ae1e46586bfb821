// The loops that keep bundles fresh, over an exchange and a clock of the test's own.

import { afterEach, describe, expect, test } from "bun:test";
import { BundlePoller } from "../../../src/daemon/bundle/poller.ts";
import { BundleBook } from "../../../src/daemon/bundle.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { RiprapError } from "../../../src/error.ts";
import { parseResources } from "../../../src/resource.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { openStore } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { foreignDomain, trustDomain } from "../../resource/sample.ts";
import { settle } from "../house.ts";
import { documentOf, rootsFor } from "./sample.ts";

const PARTNER = TrustDomain.parse("partner.test");
const [ROOT] = (await rootsFor("partner.test", 1)) as [Uint8Array];
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function open() {
  const clock = new ManualClock();
  const lines: { event: string; level: string; error?: string }[] = [];
  const log = createLog({ level: "debug", clock, write: (line) => void lines.push(JSON.parse(line)) });
  const book = new BundleBook({ store: openStore(":memory:"), clock, log });
  const asked: string[] = [];
  const answers = { next: (): string | Promise<string> => documentOf([ROOT], 1n, 600) };
  const signals: AbortSignal[] = [];
  const poller = new BundlePoller({
    ...{ book, clock, log, random: () => 0, isOwn: () => false },
    async exchange(url, _endpoint, signal) {
      asked.push(url.href);
      signals.push(signal);
      const body = Buffer.from(await answers.next());
      return {
        response: { status: 200, headers: new Map([["content-type", ["application/json"]]]), body },
        server: "x",
      };
    },
  });
  closing.push(() => poller.close());
  const apply = (...documents: unknown[]) => {
    const text = documents.map((document) => JSON.stringify(document)).join("\n---\n");
    const { trustDomains } = parseResources([{ file: "rules.yaml", text }], { trustDomain });
    book.configure(trustDomains);
    poller.configure(trustDomains);
    return settle();
  };
  return { clock, lines, book, poller, asked, answers, signals, apply };
}

const domain = (name = "partner.test", url = `https://${name}/bundle`) =>
  foreignDomain(name, { trustDomain: name, endpoint: { url, profile: "https_web" } });

describe("BundlePoller", () => {
  test("BundlePoller asks at once, and again by the hint of the bundle that is held (row F-3)", async () => {
    const { apply, asked, book, clock } = open();
    await apply(domain());
    expect([asked.length, book.bundleOf(PARTNER)?.sequence]).toEqual([1, 1n]);
    await clock.advance(599_000);
    await settle();
    expect(asked).toHaveLength(1);
    await clock.advance(1_000);
    await settle();
    expect(asked).toHaveLength(2);
  });

  test("BundlePoller goes on when rules change that are not about it, and begins anew with another URL", async () => {
    const { apply, asked } = open();
    await apply(domain());
    await apply(domain(), domain("third.test"));
    expect(asked).toEqual(["https://partner.test/bundle", "https://third.test/bundle"]);
    await apply(domain("partner.test", "https://partner.test/other"), domain("third.test"));
    expect(asked.slice(2)).toEqual(["https://partner.test/other"]);
  });

  test("BundlePoller takes nothing that comes after its rule has gone, and asks no more (row F-23)", async () => {
    const { apply, asked, answers, book, clock, signals } = open();
    const late = Promise.withResolvers<string>();
    answers.next = () => late.promise;
    await apply(domain());
    await apply();
    expect(signals[0]?.aborted).toBe(true);
    late.resolve(documentOf([ROOT], 1n));
    await settle();
    expect(book.bundles().size).toBe(0);
    await clock.advance(3_600_000);
    expect(asked).toHaveLength(1);
  });

  test("BundlePoller keeps what is held when the endpoint goes back in time or fails, and says each thing once (rows F-4, F-22)", async () => {
    const { apply, answers, book, clock, lines, poller } = open();
    answers.next = () => documentOf([ROOT], 5n, 60);
    await apply(domain());
    answers.next = () => documentOf([], 4n, 60);
    for (let i = 0; i < 5; i += 1) {
      await clock.advance(60_000);
      await settle();
    }
    expect(poller.stateOf(PARTNER)).toMatchObject({ error: expect.stringContaining("goes back in time") });
    answers.next = () => Promise.reject(new RiprapError("endpoint_unreachable", "nobody is there"));
    for (let i = 0; i < 5; i += 1) {
      await clock.advance(60_000);
      await settle();
    }
    expect(book.bundleOf(PARTNER)).toMatchObject({ sequence: 5n });
    const warnings = lines.filter(({ level }) => level === "warn").map(({ error }) => error);
    expect(warnings).toEqual([expect.stringContaining("goes back in time"), "nobody is there"]);
    answers.next = () => documentOf([ROOT], 6n, 60);
    await clock.advance(60_000);
    await settle();
    expect(poller.stateOf(PARTNER)).toMatchObject({ failures: 0, error: undefined });
    expect(book.bundleOf(PARTNER)?.sequence).toBe(6n);
  });

  test("BundlePoller survives what is no RiprapError, and goes on", async () => {
    const { apply, answers, book, clock } = open();
    answers.next = () => Promise.reject(new TypeError("a bug"));
    await apply(domain());
    answers.next = () => documentOf([ROOT], 1n);
    await clock.advance(10_000);
    await settle();
    expect(book.bundleOf(PARTNER)?.sequence).toBe(1n);
  });

  test("BundlePoller asks eight at once, and the rest after them", async () => {
    const { apply, asked, answers } = open();
    const gate = Promise.withResolvers<string>();
    answers.next = () => gate.promise;
    await apply(...Array.from({ length: 20 }, (_, i) => domain(`d${i}.test`)));
    expect(asked).toHaveLength(8);
    gate.resolve('{"keys":[]}');
    await settle(60);
    expect(asked).toHaveLength(20);
  });
});
