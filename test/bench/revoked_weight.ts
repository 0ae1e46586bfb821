// What a revoked serial number weighs: one in a hundred of a million that a CA signed, in its CRL, as statements of the fleet and as the set that the fleet says; and what no code for such a set can be below.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Journal } from "../../src/ca/journal.ts";
import { SerialSource } from "../../src/ca/svid.ts";
import {
  authorityIdOf,
  initTrustDomain,
  liveSerials,
  type NodeAuthority,
  openAuthority,
  publicKeysOf,
  readNodeChain,
  revokedSets,
} from "../../src/ca.ts";
import { systemClock } from "../../src/clock.ts";
import { writeBody } from "../../src/federation/body.ts";
import { draftSerialSet } from "../../src/federation/serial_set.ts";
import { BODY_BYTES_MAX, parseStatement, signStatement } from "../../src/federation/statement.ts";
import { SerialSet } from "../../src/serial_set.ts";
import { openStore, type Store, storePath } from "../../src/store.ts";
import { DOMAIN, voice } from "../federation/fleet_fixture.ts";
import { SPEAKER } from "./fleet_peer.ts";
import type { Row } from "./table.ts";

const LIVE = 1_000_000;
const REVOKED = 10_000;
/** Journaled in one transaction. */
const AT_ONCE = 20_000;
const SPREAD_MS = 3_000_000;
const LOOKUP_ROUNDS = 5;

/** Throws when the set is not exact, or openssl reads another CRL. */
export async function weighRevoked(folder: string): Promise<Row[]> {
  const stateDir = join(folder, "weight");
  mkdirSync(stateDir, { mode: 0o700 });
  await initTrustDomain({ stateDir, trustDomain: DOMAIN, nodeName: SPEAKER, clock: systemClock });
  const store = openStore(storePath(stateDir));
  const authority = openAuthority({ stateDir, clock: systemClock, store });
  try {
    const [key = new Uint8Array()] = publicKeysOf(readNodeChain(stateDir).slice(0, 1));
    const now = systemClock.now();
    const about = { authority: authorityIdOf(key), now };
    const revoked = fill(store, about);
    const crl = weighCrl(authority, folder);
    const set = weighSet(store, { ...about, revoked });
    const bits = (rows: readonly Row[]) => rows[0]?.value ?? Number.NaN;
    return [...crl, ...weighSingle(revoked, about), ...set, row(SET, SMALLER, bits(crl) / bits(set))];
  } finally {
    authority.close();
    store.close();
  }
}

interface About {
  /** Key identifier in hexadecimal. */
  readonly authority: string;
  readonly now: number;
}

/** Journals what the CA journals when it signs and revokes; the signatures themselves are in neither form. */
function fill(store: Store, { authority, now }: About): ReadonlySet<string> {
  const journal = new Journal(store);
  const serials = new SerialSource();
  const issuer = Buffer.from(authority, "hex");
  const revoked = new Set<string>();
  const step = LIVE / REVOKED;
  for (let from = 0; from < LIVE; from += AT_ONCE) {
    const entries = Array.from({ length: AT_ONCE }, (_, i) => {
      const signedAt = now - 60_000 - SPREAD_MS + Math.floor(((from + i) * SPREAD_MS) / LIVE);
      const validity = { notBefore: signedAt, notAfter: now + 3_600_000, signedAt };
      return { serial: serials.next(signedAt), spiffeId: `spiffe://${DOMAIN}/w`, issuer, ...validity, context: "{}" };
    });
    entries.sort((a, b) => Buffer.compare(a.serial, b.serial));
    journal.transaction(() => {
      journal.addSvids(entries);
      for (const { serial, notAfter } of entries.filter((_, i) => (from + i) % step === 0)) {
        journal.addRevocation({ serial, reason: "bench", revokedAt: now, keepUntil: notAfter });
        revoked.add(Buffer.from(serial).toString("hex"));
      }
    });
  }
  return revoked;
}

const BITS = "bits per revoked serial, 1 % of a million";
const SMALLER = "a DER CRL is longer, times";
const BOUND = "of the entropy bound, times";
const CRL = "DER CRL";
const SET = "riprap, a set in a signed statement";
const BARE_SET = "riprap, the set alone";

const row = (peer: string, metric: string, value: number, round = 1): Row => ({ round, peer, metric, value });

/** Of a set that holds each element with this probability, per element of the set. */
function entropyBits(p: number): number {
  return (-p * Math.log2(p) - (1 - p) * Math.log2(1 - p)) / p;
}

function weighCrl(authority: Pick<NodeAuthority, "crl">, folder: string): Row[] {
  const crl = authority.crl();
  const path = join(folder, "bench.crl");
  writeFileSync(path, crl);
  const { stdout } = Bun.spawnSync(["openssl", "crl", "-inform", "DER", "-in", path, "-noout", "-text"]);
  const listed = stdout.toString().match(/Serial Number:/g)?.length ?? 0;
  if (listed !== REVOKED) throw new Error(`openssl reads ${listed} serial numbers in the CRL`);
  return [row(CRL, BITS, (8 * crl.length) / REVOKED)];
}

function weighSingle(revoked: ReadonlySet<string>, { authority, now }: About): Row[] {
  const [serial = ""] = revoked;
  const body = writeBody("revocation", { reason: "bench", keep: [] });
  const draft = { kind: "revocation", name: `serial:${authority}:${serial}`, revision: 1, time: now, body } as const;
  const { bytes } = signStatement({ trustDomain: DOMAIN, ...draft }, voice(SPEAKER));
  return [row("riprap, a statement each", BITS, 8 * bytes.length)];
}

function weighSet(store: Store, about: About & { readonly revoked: ReadonlySet<string> }): Row[] {
  const began = performance.now();
  const [set, ...more] = revokedSets(store, { ...about, bytesMax: BODY_BYTES_MAX });
  const took = performance.now() - began;
  if (set === undefined || more.length > 0) throw new Error("it is not one set");
  const draft = { trustDomain: DOMAIN, revision: 1, ...draftSerialSet(set, { ...about, time: about.now }) };
  // As another node has it.
  const statement = parseStatement(signStatement(draft, voice(SPEAKER)).bytes);
  const read = SerialSet.parse(statement.body);
  const live = liveSerials(store, about);
  const found = read.among(live);
  const isExact =
    live.length === 20 * LIVE && found.length === REVOKED && found.every((serial) => about.revoked.has(serial));
  if (!isExact) throw new Error("the set is not exact");
  const bits = (8 * statement.bytes.length) / REVOKED;
  const alone = (8 * statement.body.length) / REVOKED;
  const bound = entropyBits(REVOKED / LIVE);
  return [
    row(SET, BITS, bits),
    row(BARE_SET, BITS, alone),
    row("entropy bound", BITS, bound),
    row(SET, BOUND, bits / bound),
    row(BARE_SET, BOUND, alone / bound),
    row(SET, "to read the journal and make the set, ms", took),
    ...timeLookups(read, live),
  ];
}

function timeLookups(set: SerialSet, live: Uint8Array): Row[] {
  return Array.from({ length: LOOKUP_ROUNDS }, (_, round) => {
    const began = performance.now();
    let found = 0;
    for (let at = 0; at < live.length; at += 20) if (set.has(live, at)) found += 1;
    const ns = ((performance.now() - began) * 1e6) / LIVE;
    if (found !== REVOKED) throw new Error("the set is not exact");
    return row(SET, "to look one up, ns", ns, round + 1);
  });
}
