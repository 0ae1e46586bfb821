import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseBundleMap } from "../../../src/bundle_map.ts";
import { BundleBook } from "../../../src/daemon/bundle.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { parseResources } from "../../../src/resource.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { openStore, storePath } from "../../../src/store.ts";
import { ManualClock } from "../../manual_clock.ts";
import { foreignDomain, trustDomain } from "../../resource/sample.ts";
import { scratchDirectories } from "../../scratch.ts";
import { documentOf, rootsFor } from "./sample.ts";

const scratch = scratchDirectories();
const PARTNER = TrustDomain.parse("partner.test");
const [ROOT_A, ROOT_B] = (await rootsFor("partner.test", 2)) as [Uint8Array, Uint8Array];

function open(stateDir = scratch()) {
  const store = openStore(storePath(stateDir));
  const lines: { event: string; level: string }[] = [];
  const clock = new ManualClock();
  const log = createLog({ level: "debug", clock, write: (line) => void lines.push(JSON.parse(line)) });
  const book = new BundleBook({ store, clock, log });
  const changes: string[] = [];
  book.onChange((names) => void changes.push(names.join(" ")));
  return { book, store, stateDir, changes, events: () => lines.map(({ event }) => event) };
}

function resources(...specs: Record<string, unknown>[]) {
  const documents = specs.map((spec, i) => foreignDomain(`d${i}`, { trustDomain: "partner.test", ...spec }));
  const text = documents.map((document) => JSON.stringify(document)).join("\n---\n");
  return parseResources([{ file: "rules.yaml", text }], { trustDomain }).trustDomains;
}

describe("BundleBook", () => {
  test("take() holds nothing of a trust domain that no rule names", () => {
    const { book } = open();
    expect(() => book.take(PARTNER, documentOf([ROOT_A], 1n), { source: "command" })).toThrow("no rule trusts it");
    expect(book.bundles().size).toBe(0);
  });

  test("configure() takes an inline bundle, and take() those after it in order (rows F-4, F-18)", () => {
    const { book, changes } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 5n) } }));
    expect(book.bundleOf(PARTNER)?.sequence).toBe(5n);
    expect(book.take(PARTNER, documentOf([ROOT_A], 5n), { source: "endpoint" }).outcome).toBe("unchanged");
    expect(book.take(PARTNER, documentOf([ROOT_A, ROOT_B], 6n), { source: "endpoint" }).outcome).toBe("taken");
    expect(book.bundleOf(PARTNER)?.x509).toHaveLength(2);
    expect(changes).toEqual(["partner.test", "partner.test"]);
  });

  test("take() refuses a bundle that goes back in time, and takes it when a person forces it (row F-4)", () => {
    const { book } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 2n ** 60n) } }));
    const old = documentOf([ROOT_B], 2n ** 60n - 1n);
    expect(() => book.take(PARTNER, old, { source: "endpoint" })).toThrow("goes back in time");
    expect(book.bundleOf(PARTNER)?.sequence).toBe(2n ** 60n);
    expect(book.take(PARTNER, old, { source: "command", isForced: true }).outcome).toBe("taken");
  });

  test("take() never leaves a broken document in the place of a good one", () => {
    const { book } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 1n) } }));
    for (const text of [
      "",
      "{}",
      '{"keys":[],"keys":[]}',
      '{"keys":[],"spiffe_sequence":18446744073709551616}',
      "nonsense",
    ])
      expect(() => book.take(PARTNER, text, { source: "endpoint" })).toThrow("Cannot read the trust bundle");
    expect(book.bundleOf(PARTNER)?.sequence).toBe(1n);
  });

  test("bundles() are there after a restart, with the latest document that was taken (row F-4)", () => {
    const first = open();
    const inline = resources({ bundle: { inline: documentOf([ROOT_A], 1n) } });
    first.book.configure(inline);
    first.book.take(PARTNER, documentOf([ROOT_B], 2n), { source: "endpoint" });
    first.store.close();
    const second = open(first.stateDir);
    expect(second.book.bundleOf(PARTNER)?.sequence).toBe(2n);
    // The first bundle was looked at before: it does not come back.
    second.book.configure(inline);
    expect(second.book.bundleOf(PARTNER)?.sequence).toBe(2n);
    expect(second.changes).toEqual([]);
  });

  test("configure() drops the bundle of a trust domain that no rule names any longer, for good (row F-23)", () => {
    const { book, changes, stateDir, store } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 1n) } }));
    book.configure([]);
    expect(book.bundles().size).toBe(0);
    expect(changes).toEqual(["partner.test", "partner.test"]);
    store.close();
    expect(open(stateDir).book.bundles().size).toBe(0);
  });

  test("configure() takes another first bundle that a person has written, and refuses an older one aloud", () => {
    const { book, events } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 3n) } }));
    book.configure(resources({ bundle: { inline: documentOf([ROOT_B], 2n) } }));
    expect(book.bundleOf(PARTNER)?.sequence).toBe(3n);
    expect(events()).toContain("the first bundle of a trust domain was not taken");
    book.configure(resources({ bundle: { inline: documentOf([ROOT_B], 4n) } }));
    expect(book.bundleOf(PARTNER)?.sequence).toBe(4n);
  });

  test("configure() reads a file, and says what is wrong with one that cannot be read", () => {
    const { book } = open();
    const file = join(scratch(), "partner.json");
    book.configure(resources({ bundle: { file } }));
    expect(book.faultOf(PARTNER)).toContain("ENOENT");
    writeFileSync(file, documentOf([ROOT_A], 1n));
    book.configure(resources({ bundle: { file } }));
    expect([book.faultOf(PARTNER), book.bundleOf(PARTNER)?.sequence]).toEqual([undefined, 1n]);
    book.configure(resources({ bundle: { file: "/dev/zero" } }));
    expect(book.faultOf(PARTNER)).toContain("not a regular file");
  });

  test("take() holds the first bundle against the pinned fingerprint, by whatever way it comes", () => {
    const { book } = open();
    const fingerprint = `sha256:${"00".repeat(32)}`;
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 1n), fingerprint } }));
    expect(book.bundles().size).toBe(0);
    expect(book.faultOf(PARTNER)).toContain("is pinned");
    expect(() => book.take(PARTNER, documentOf([ROOT_A], 1n), { source: "command" })).toThrow("is pinned");
  });

  test("take() takes an empty bundle, which trusts nobody (row B-7)", () => {
    const { book } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 1n) } }));
    book.take(PARTNER, '{"keys":[],"spiffe_sequence":2}', { source: "endpoint" });
    expect(book.bundleOf(PARTNER)?.x509).toEqual([]);
  });

  const mapOf = (...sequences: readonly bigint[]) =>
    parseBundleMap(`{"trust_domains":{${sequences.map((n, i) => `"d${i}.test":${documentOf([ROOT_A], n)}`).join()}}}`);
  const three = resources({ trustDomain: "d0.test" }, { trustDomain: "d1.test" }, { trustDomain: "d2.test" });
  const sequences = ({ book }: ReturnType<typeof open>) => [...book.bundles().values()].map(({ sequence }) => sequence);

  test("takeMap() takes all of a map at once, and nothing of trust domains that no rule names (row B-15)", () => {
    const opened = open();
    opened.book.configure(three);
    const taken = opened.book.takeMap(mapOf(5n, 6n, 7n, 8n), { source: "command" });
    expect([...taken].map(([name, { outcome }]) => [name, outcome])).toEqual([
      ["d0.test", "taken"],
      ["d1.test", "taken"],
      ["d2.test", "taken"],
    ]);
    expect(opened.changes).toEqual(["d0.test d1.test d2.test"]);
    const again = opened.book.takeMap(mapOf(5n, 9n), { source: "command" });
    expect([...again.values()].map(({ outcome }) => outcome)).toEqual(["unchanged", "taken"]);
    expect(opened.changes.slice(1)).toEqual(["d1.test"]);
    expect(sequences(opened)).toEqual([5n, 9n, 7n]);
    opened.store.close();
    expect(sequences(open(opened.stateDir))).toEqual([5n, 9n, 7n]);
  });

  test("takeMap() takes nothing of a map when one bundle of it goes back in time, unless it is forced (rows B-15, F-4)", () => {
    const opened = open();
    opened.book.configure(three);
    opened.book.takeMap(mapOf(5n, 5n, 5n), { source: "command" });
    const older = mapOf(6n, 4n, 6n);
    expect(() => opened.book.takeMap(older, { source: "command" })).toThrow(
      "Cannot take the bundle map, and nothing of it is taken: Cannot take the bundle of d1.test: its sequence number is 4",
    );
    expect([sequences(opened), opened.changes.length]).toEqual([[5n, 5n, 5n], 1]);
    opened.book.takeMap(older, { source: "command", isForced: true });
    expect(sequences(opened)).toEqual([6n, 4n, 6n]);
  });

  test("takeMap() takes nothing of a map of which the store keeps a part only (row B-15)", () => {
    const opened = open();
    opened.book.configure(three);
    opened.book.takeMap(mapOf(1n, 1n, 1n), { source: "command" });
    const full =
      "BEFORE INSERT ON foreign_bundle WHEN NEW.trust_domain = 'd2.test' BEGIN SELECT RAISE(FAIL, 'full'); END";
    opened.store.prepare(`CREATE TRIGGER full ${full}`).run();
    expect(() => opened.book.takeMap(mapOf(2n, 2n, 2n), { source: "command" })).toThrow("Cannot hold 3 bundles");
    expect(sequences(opened)).toEqual([1n, 1n, 1n]);
    opened.store.close();
    expect(sequences(open(opened.stateDir))).toEqual([1n, 1n, 1n]);
  });

  test("configure() never throws and take() says so when the store takes nothing (a full disk), and trust ends all the same", () => {
    const { book, store } = open();
    const inline = resources({ bundle: { inline: documentOf([ROOT_A], 1n) } });
    book.configure(inline);
    store
      .prepare("CREATE TRIGGER full BEFORE INSERT ON foreign_bundle BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
      .run();
    store
      .prepare("CREATE TRIGGER kept BEFORE DELETE ON foreign_bundle BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
      .run();
    const next = documentOf([ROOT_B], 2n);
    expect(() => book.take(PARTNER, next, { source: "endpoint" })).toThrow("the node's store does not take it");
    expect(book.bundleOf(PARTNER)?.sequence).toBe(1n);
    book.configure(resources({ bundle: { inline: next } }));
    expect(book.faultOf(PARTNER)).toContain("disk is full");
    store.prepare("DROP TRIGGER full").run();
    book.configure(resources({ bundle: { inline: next } }));
    expect(book.bundleOf(PARTNER)?.sequence).toBe(2n);
    book.configure([]);
    expect(book.bundles().size).toBe(0);
  });

  test("new BundleBook() goes without a stored document that cannot be read, and says so", () => {
    const { book, store, stateDir } = open();
    book.configure(resources({ bundle: { inline: documentOf([ROOT_A], 1n) } }));
    store.prepare("UPDATE foreign_bundle SET document = 'x'").run();
    store.close();
    const again = open(stateDir);
    expect(again.book.bundles().size).toBe(0);
    expect(again.events()).toContain("a stored bundle cannot be read and is not used");
  });
});
