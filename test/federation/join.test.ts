// Enrolment by token: what the two machines say to one another, and each way in which a request is refused.
import { describe, expect, test } from "bun:test";
import { hash } from "node:crypto";
import { pauseAfter } from "../../src/daemon/fleet/joiner.ts";
import {
  admissionFault,
  bearerFingerprint,
  decidePending,
  JOIN_SKEW_MAX_MS,
  JOIN_TRIES_MAX,
  type JoinVerdict,
  judgeJoin,
} from "../../src/federation/admission.ts";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import { type JoinReply, openJoin, parseJoin, refuseJoin, startJoin } from "../../src/federation/join.ts";
import { createNkey } from "../../src/federation/nats.ts";
import {
  createToken,
  openJoinSecret,
  parseToken,
  type Token,
  type TokenOptions,
  type TokenRecord,
} from "../../src/federation/token.ts";
import type { Admission } from "../../src/fleet.ts";
import { draw, random } from "../random.ts";
import { ALL, authorityId, DOMAIN, hex, makeFleet, NOW, sayNode, sayRevoked, take, voice } from "./fleet_fixture.ts";

const HOUR = 3_600_000;
const FINGERPRINT = "ab".repeat(32);
const SEED = `SU${"A".repeat(56)}`;
const secret = openJoinSecret(new Uint8Array(32).fill(7));
const fleet = makeFleet();

const ADMISSION: Admission = {
  nodeName: undefined,
  group: "edge",
  idPrefixes: ALL,
  needsApproval: false,
  mayReplace: false,
};
const OPTIONS: TokenOptions = {
  trustDomain: DOMAIN,
  rootFingerprint: FINGERPRINT,
  servers: ["nats://broker.example:4222"],
  admission: ADMISSION,
  createdBy: "test",
  lifetimeMs: HOUR,
};

function make(over: Partial<Admission> = {}): { token: Token; record: TokenRecord } {
  const { text, record } = createToken(secret, { ...OPTIONS, admission: { ...ADMISSION, ...over } }, NOW);
  return { token: parseToken(text), record };
}

interface Ask {
  readonly name?: string;
  readonly key?: string;
  readonly csr?: string;
  readonly time?: number;
  /** In the enrolment document, where it is another. */
  readonly inner?: string;
  readonly nkey?: string;
}

const request = ({ name = "dora", csr = "Y3Ny", time = NOW, inner = name, nkey = "" }: Ask = {}) => ({
  time,
  nodeName: name,
  enrolment: `{"nodeName": ${JSON.stringify(inner)}, "csr": "${csr}"}`,
  nkey,
  version: "1",
});

const ask = (token: Token, as: Ask = {}) => startJoin(token, request(as), voice(as.key ?? as.name ?? "dora"));
const opened = (bytes: Uint8Array, record: TokenRecord) =>
  openJoin(parseJoin(bytes), secret, { trustDomain: DOMAIN, record });
const claimed = (bytes: Uint8Array, record: TokenRecord) => {
  const { request, enc } = opened(bytes, record);
  return { request, enc, enrolment: JSON.parse(request.enrolment) as { nodeName: string } };
};

interface Judged {
  readonly verdict: JoinVerdict;
  readonly record: TokenRecord;
}

function judge(
  record: TokenRecord,
  bytes: Uint8Array,
  { now = NOW, state = fleet.state() }: { now?: number; state?: FleetState } = {},
): Judged {
  return judgeJoin(record, claimed(bytes, record), { state, now, roots: { all: [FINGERPRINT], signing: FINGERPRINT } });
}

const codeOf = ({ verdict }: Judged) => (verdict.outcome === "refused" ? verdict.code : verdict.outcome);
const throwing = (code: string) => expect.objectContaining({ code });

describe("token", () => {
  test("parseToken() gives what createToken() made, and the record holds nothing that lets anybody join", () => {
    const { text, record } = createToken(secret, { ...OPTIONS, credentials: SEED }, NOW);
    const token = parseToken(`  ${text}\n`);
    expect(token).toMatchObject({
      id: record.id,
      trustDomain: DOMAIN,
      rootFingerprint: FINGERPRINT,
      expiresAt: NOW + HOUR,
      servers: OPTIONS.servers,
      credentials: SEED,
      brokerCa: [],
    });
    expect(text.length).toBeLessThan(400);
    expect(JSON.stringify(record)).not.toContain(hex(token.secret));
    expect(hex(secret.secretOf(record))).toBe(hex(token.secret));
  });

  test("createToken() makes each token another, and binds its secret to what it may be", () => {
    const [a, b] = [make(), make()];
    expect(hex(a.token.secret)).not.toBe(hex(b.token.secret));
    const wider = { ...a.record, admission: { ...a.record.admission, group: "core" } };
    expect(hex(secret.secretOf(wider))).not.toBe(hex(a.token.secret));
    const longer = { ...a.record, expiresAt: a.record.expiresAt + 1 };
    expect(hex(secret.secretOf(longer))).not.toBe(hex(a.token.secret));
    const other = openJoinSecret(new Uint8Array(32).fill(8));
    expect(hex(other.secretOf(a.record))).not.toBe(hex(a.token.secret));
  });

  test("createToken() refuses a life that is too short or long, and servers that are none or carry a password", () => {
    const refused = (over: Partial<TokenOptions>) => () => createToken(secret, { ...OPTIONS, ...over }, NOW);
    for (const lifetimeMs of [0, 59_999, 8 * 24 * HOUR, 0.5, Number.NaN]) {
      expect(refused({ lifetimeMs })).toThrow(throwing("token_lifetime_invalid"));
    }
    for (const servers of [
      [],
      ["http://a"],
      ["nats://me:secret@a:4222"],
      ["nats://a:4222", "ws://a:8080"],
      ["wss://a"],
      Array.from({ length: 9 }, () => "nats://a"),
    ]) {
      expect(refused({ servers })).toThrow(throwing("token_servers_invalid"));
    }
  });

  test("parseToken() refuses a token of before that names a broker by WebSocket, and says what to do", () => {
    const servers = ["nats://xbroker.example:4222"];
    const { text } = createToken(secret, { ...OPTIONS, servers }, NOW);
    const prefix = "riprap-join-";
    const bytes = Buffer.from(text.slice(prefix.length), "base64url");
    const body = Buffer.from(bytes.subarray(0, -4).toString("latin1").replace("nats://x", "wss://xx"), "latin1");
    const forged = Buffer.concat([body, hash("sha256", body, "buffer").subarray(0, 4)]);
    const parse = () => parseToken(prefix + forged.toString("base64url"));
    expect(parse).toThrow(throwing("token_servers_invalid"));
    expect(parse).toThrow("--server nats://HOST:4222");
  });

  test("parseToken() reads a token whose every field is as large as it may be, and createToken() refuses larger credentials", () => {
    const credentials = SEED.padEnd(2048, "\n");
    const servers = Array.from({ length: 8 }, (_, n) => `nats://${"a".repeat(247)}${n}`);
    const brokerCa = [new Uint8Array(3000).fill(1), ...Array.from({ length: 7 }, (_, n) => new Uint8Array(10).fill(n))];
    const { text, record } = createToken(secret, { ...OPTIONS, servers, credentials, brokerCa }, NOW);
    expect(parseToken(text)).toMatchObject({ servers, credentials, brokerCa });
    expect(JSON.stringify(record)).not.toContain(SEED);
    for (const wrong of [`${credentials}\n`, "user:word"]) {
      const make = () => createToken(secret, { ...OPTIONS, credentials: wrong }, NOW);
      expect(make).toThrow(throwing("token_credentials_invalid"));
      expect(make).not.toThrow(wrong);
    }
  });

  test("parseToken() refuses what is no token, and one that was mistyped anywhere, without saying its text", () => {
    const { text } = createToken(secret, OPTIONS, NOW);
    for (const wrong of ["", "hello", text.slice(1), `riprap-join-${"A".repeat(11_000)}`]) {
      expect(() => parseToken(wrong)).toThrow(throwing("token_malformed"));
    }
    for (let at = "riprap-join-".length; at < text.length; at += 1) {
      const wrong = text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1);
      try {
        parseToken(wrong);
        throw new Error("a damaged token was taken");
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "token_damaged" });
        expect(String(thrown)).not.toContain(text.slice(20, 40));
      }
    }
    expect(() => parseToken(text.slice(0, -3))).toThrow(throwing("token_damaged"));
  });
});

describe("the exchange", () => {
  test("openJoin() reads what startJoin() sealed, and finish() reads the answer", () => {
    const { token, record } = make();
    const joining = ask(token);
    const join = opened(joining.bytes, record);
    expect(join.request).toMatchObject({ nodeName: "dora", rootFingerprint: FINGERPRINT, time: NOW });
    expect(hex(join.request.key)).toBe(hex(voice("dora").publicKey));
    const grant = { enrolment: "{}", statements: [...fleet.grants], servers: ["tls://b:1"], credentials: "c" };
    const replies: JoinReply[] = [
      { outcome: "granted", grant },
      { outcome: "pending", time: NOW },
      { outcome: "refused", code: "token_spent", message: "Cannot", time: NOW },
    ];
    for (const reply of replies) expect(joining.finish(join.seal(reply))).toEqual({ ...reply, isProven: true });
  });

  test("who carries the messages reads a token's name and nothing of the node, and a request is never the same twice", () => {
    const { token } = make();
    const [a, b] = [ask(token).bytes, ask(token).bytes];
    for (const known of ["dora", hex(voice("dora").publicKey), FINGERPRINT, hex(token.secret)]) {
      expect(Buffer.from(a).includes(Buffer.from(known))).toBe(false);
      expect(Buffer.from(a).includes(Buffer.from(known, "hex")) && known !== "dora").toBe(false);
    }
    expect(parseJoin(a).tokenId).toBe(token.id);
    expect(hex(a)).not.toBe(hex(b));
  });

  test("openJoin() refuses who has no token: a guessed secret, another token, another trust domain, any changed bit", () => {
    const { token, record } = make();
    const { bytes } = ask(token);
    const forged = throwing("join_forged");
    expect(() => opened(ask({ ...token, secret: new Uint8Array(32) }).bytes, record)).toThrow(forged);
    expect(() => opened(ask({ ...make().token, id: token.id }).bytes, record)).toThrow(forged);
    expect(() => opened(ask({ ...token, trustDomain: "other.org" }).bytes, record)).toThrow(forged);
    expect(() => opened(bytes, { ...record, expiresAt: record.expiresAt + HOUR })).toThrow(forged);
    for (let at = 17; at < bytes.length; at += 7) {
      if (at >= 49 && at < 53) continue;
      const changed = Uint8Array.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => opened(changed, record)).toThrow(forged);
    }
  });

  test("openJoin() refuses a bearer who puts another machine's key into his request", () => {
    const { token, record } = make();
    const thief = { publicKey: voice("dora").publicKey, sign: voice("mallory").sign };
    expect(() => opened(startJoin(token, request(), thief).bytes, record)).toThrow(throwing("join_forged"));
  });

  test("finish() takes nothing sealed by another, of another exchange, or changed; an open refusal proves nothing", () => {
    const { token, record } = make();
    const [mine, other] = [ask(token), ask(token)];
    const reply = { outcome: "pending", time: NOW } as const;
    const answer = opened(mine.bytes, record).seal(reply);
    const invalid = throwing("join_reply_invalid");
    expect(() => other.finish(answer)).toThrow(invalid);
    expect(() => mine.finish(opened(other.bytes, record).seal(reply))).toThrow(invalid);
    for (let at = 1; at < answer.length; at += 1) {
      const changed = Uint8Array.from(answer);
      changed[at] = (changed[at] ?? 0) ^ 0x81;
      expect(() => mine.finish(changed)).toThrow(invalid);
    }
    expect(mine.finish(refuseJoin("token_unknown"))).toMatchObject({
      outcome: "refused",
      code: "token_unknown",
      isProven: false,
    });
    expect(() => mine.finish(refuseJoin("Run this: rm"))).toThrow(invalid);
  });

  test("parseJoin() and finish() throw nothing but their own refusal on random octets", () => {
    const { token } = make();
    const { bytes, finish } = ask(token);
    const next = random(77);
    for (let round = 0; round < 2000; round += 1) {
      const mangled = round % 2 === 0 ? new Uint8Array(draw(next, 200)) : Uint8Array.from(bytes);
      for (let i = draw(next, 9); i >= 0; i -= 1) mangled[draw(next, mangled.length)] = draw(next, 256);
      for (const read of [parseJoin, finish]) {
        try {
          read(mangled.subarray(0, mangled.length - draw(next, 3)));
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: expect.stringMatching(/^join_(malformed|reply_invalid)$/) });
        }
      }
    }
  });
});

describe("admission", () => {
  test("judgeJoin() lets a node in once, and the same machine again while its answer may be lost", () => {
    const { token, record } = make();
    const first = judge(record, ask(token).bytes);
    expect(first).toMatchObject({ verdict: { outcome: "grant", isRetry: false }, record: { use: { state: "used" } } });
    const again = judge(first.record, ask(token).bytes);
    expect(again.verdict).toMatchObject({ outcome: "grant", isRetry: true });
    const late = { now: record.expiresAt + JOIN_SKEW_MAX_MS + 1 };
    expect(codeOf(judge(first.record, ask(token, { time: late.now }).bytes, late))).toBe("token_expired");
  });

  test("judgeJoin() refuses each fault by its own reason", () => {
    const { token, record } = make();
    const bytes = ask(token).bytes;
    const used = judge(record, bytes).record;
    expect(codeOf(judge(used, bytes))).toBe("join_replayed");
    expect(codeOf(judge(used, ask(token, { name: "mallory" }).bytes))).toBe("token_spent");
    expect(codeOf(judge(used, ask(token, { key: "mallory" }).bytes))).toBe("token_spent");
    expect(codeOf(judge(used, ask(token, { csr: "b3RoZXI=" }).bytes))).toBe("token_spent");
    expect(codeOf(judge(record, ask(token, { time: NOW + HOUR }).bytes))).toBe("join_clock");
    expect(codeOf(judge(record, ask(token, { time: NOW - HOUR }).bytes))).toBe("join_clock");
    expect(codeOf(judge(record, ask({ ...token, rootFingerprint: "cd".repeat(32) }).bytes))).toBe("join_wrong_root");
    const retired = { state: fleet.state(), now: NOW, roots: { all: [FINGERPRINT, "cd"], signing: "cd" } };
    const { verdict } = judgeJoin(record, claimed(ask(token).bytes, record), retired);
    expect(verdict).toMatchObject({ code: "join_retired_root", message: expect.stringContaining("make a new token") });
    expect(codeOf(judge(record, ask(token, { name: "Not A Name" }).bytes))).toBe("join_name");
    const late = record.expiresAt + 1;
    expect(codeOf(judge(record, ask(token, { time: late }).bytes, { now: late }))).toBe("token_expired");
    const tried = { ...record, seen: Array.from({ length: JOIN_TRIES_MAX }, (_, n) => ({ enc: `${n}`, until: NOW })) };
    expect(codeOf(judge(tried, ask(token).bytes))).toBe("join_too_often");
    expect(codeOf(judge(tried, ask(token, { time: NOW + 1 }).bytes, { now: NOW + 1 }))).toBe("grant");
    const state = fleet.state();
    take(state, sayRevoked(voice("iris"), { type: "token", value: token.id }));
    expect(codeOf(judge(record, ask(token).bytes, { state }))).toBe("token_revoked");
  });

  test("judgeJoin() holds a token for one name to that name", () => {
    const { token, record } = make({ nodeName: "dora" });
    expect(codeOf(judge(record, ask(token, { name: "emil" }).bytes))).toBe("join_name");
    const inner = judge(record, ask(token, { inner: "emil" }).bytes);
    expect(inner).toMatchObject({ verdict: { code: "join_name" }, record: { use: { state: "unused" } } });
    expect(codeOf(judge(record, ask(token).bytes))).toBe("grant");
  });

  test("judgeJoin() lets no revoked node back, under its name or with its key", () => {
    const state = fleet.state();
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    const { token, record } = make({ mayReplace: true });
    expect(codeOf(judge(record, ask(token, { name: "ben", key: "fresh" }).bytes, { state }))).toBe("node_revoked");
    expect(codeOf(judge(record, ask(token, { name: "benedict", key: "ben" }).bytes, { state }))).toBe("node_revoked");
    const claim = { nodeName: "x", key: hex(voice("x").publicKey), authority: authorityId("ben"), mayReplace: true };
    expect(admissionFault(state, claim)?.[0]).toBe("node_revoked");
    expect(admissionFault(state, { ...claim, authority: authorityId("x") })).toBeUndefined();
  });

  test("judgeJoin() lets nobody in with another node's nkey, unless that node is revoked", () => {
    const state = fleet.state();
    const nkey = createNkey().publicKey;
    take(state, sayNode(voice("iris"), "ben", { nkey }, { revision: 2 }));
    const { token, record } = make();
    expect(codeOf(judge(record, ask(token, { nkey }).bytes, { state }))).toBe("join_nkey");
    expect(codeOf(judge(record, ask(token, { nkey: createNkey().publicKey }).bytes, { state }))).toBe("grant");
    expect(codeOf(judge(record, ask(token, { name: "ben", nkey }).bytes, { state }))).toBe("grant");
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    expect(codeOf(judge(record, ask(token, { nkey }).bytes, { state }))).toBe("grant");
  });

  test("judgeJoin() lets nobody take the name of a node that is there, unless the token says so", () => {
    const { token, record } = make();
    expect(codeOf(judge(record, ask(token, { name: "ada", key: "mallory" }).bytes))).toBe("node_exists");
    expect(codeOf(judge(record, ask(token, { name: "ada" }).bytes))).toBe("grant");
    const replacing = make({ mayReplace: true });
    expect(codeOf(judge(replacing.record, ask(replacing.token, { name: "ada", key: "fresh" }).bytes))).toBe("grant");
  });

  test("judgeJoin() waits for a person where the token says so, who approves or denies this one machine", () => {
    const { token, record } = make({ needsApproval: true });
    expect(decidePending(record, "approved")).toBeUndefined();
    const pending = judge(record, ask(token).bytes);
    expect(codeOf(pending)).toBe("pending");
    expect(codeOf(judge(pending.record, ask(token).bytes))).toBe("pending");
    expect(codeOf(judge(pending.record, ask(token, { name: "mallory" }).bytes))).toBe("token_spent");
    const approved = decidePending(pending.record, "approved") as TokenRecord;
    expect(codeOf(judge(approved, ask(token, { key: "mallory" }).bytes))).toBe("token_spent");
    const later = { now: record.expiresAt + HOUR };
    expect(codeOf(judge(approved, ask(token, { time: later.now }).bytes, later))).toBe("grant");
    const denied = decidePending(pending.record, "denied") as TokenRecord;
    expect(codeOf(judge(denied, ask(token).bytes))).toBe("join_denied");
    expect(decidePending(denied, "approved")).toBeUndefined();
  });

  test("judgeJoin() lets a machine in that has asked for twenty hours until a person came, and forgets no request too early", () => {
    const { token, record } = make({ needsApproval: true });
    const request = opened(ask(token).bytes, record).request;
    const roots = { all: [FINGERPRINT], signing: FINGERPRINT };
    const state = fleet.state();
    const enrolment = { nodeName: "dora" };
    const asking = (record: TokenRecord, now: number, enc = `${now}`) =>
      judgeJoin(record, { request: { ...request, time: now }, enc, enrolment }, { state, now, roots });
    for (const pause of [() => 2000, pauseAfter]) {
      let [waiting, most] = [record, 0];
      for (let now = NOW; now < NOW + 20 * HOUR; now += pause(now - NOW)) {
        const judged = asking(waiting, now);
        expect(codeOf(judged)).toBe("pending");
        expect(codeOf(asking(judged.record, now))).toBe("join_replayed");
        waiting = judged.record;
        most = Math.max(most, waiting.seen.length);
      }
      expect(most).toBeLessThan(JOIN_TRIES_MAX / 2);
      const approved = decidePending(waiting, "approved") as TokenRecord;
      expect(codeOf(asking(approved, NOW + 20 * HOUR))).toBe("grant");
    }
  });

  test("judgeJoin() answers no request twice within all of the time in which it would be taken", () => {
    const { token, record } = make({ needsApproval: true });
    for (const skew of [-JOIN_SKEW_MAX_MS, 0, JOIN_SKEW_MAX_MS]) {
      const time = NOW + skew;
      const bytes = ask(token, { time }).bytes;
      let { record: kept } = judge(record, bytes);
      for (let now = NOW; now <= time + JOIN_SKEW_MAX_MS + 60_000; now += 30_000) {
        const again = judge(kept, bytes, { now });
        if (now <= time + JOIN_SKEW_MAX_MS) expect(codeOf(again)).toBe("join_replayed");
        expect(again.verdict.outcome).toBe("refused");
        kept = judge(again.record, ask(token, { time: now }).bytes, { now }).record;
      }
    }
  });

  test("pauseAfter() asks every two seconds at first and every thirty after ten minutes", () => {
    expect([0, 40_000, 120_000, 600_000, 20 * HOUR].map(pauseAfter)).toEqual([2000, 2000, 6000, 30_000, 30_000]);
  });

  test("bearerFingerprint() gives eight groups that two people can compare", () => {
    expect(bearerFingerprint(hex(voice("dora").publicKey))).toMatch(/^([0-9a-f]{4}-){7}[0-9a-f]{4}$/);
  });

  test("a node that was let in by token stands in the roster as the token says", () => {
    const state = fleet.state();
    const { record } = make({ group: "edge", idPrefixes: [`spiffe://${DOMAIN}/edge/`] });
    const { group, idPrefixes } = record.admission;
    take(state, sayNode(voice("ivan"), "dora", { group, idPrefixes, admittedBy: `token ${record.id}` }));
    expect(state.standing.grantOf("node", "dora")?.body).toMatchObject({ group, idPrefixes });
  });
});
