import { describe, expect, test } from "bun:test";
import {
  ENVELOPE_BYTES_MAX,
  PAYLOAD_BYTES_MAX,
  parseEnvelope,
  readProof,
  sealEnvelope,
} from "../../src/federation/envelope.ts";
import type { FleetState } from "../../src/federation/fleet_state.ts";
import { AUTHOR_SUBJECTS_MAX, Gate, type GateAnswer } from "../../src/federation/gate.ts";
import { authorOf } from "../../src/federation/roster.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import { type EpochStore, Voice } from "../../src/federation/voice.ts";
import { draw, random } from "../random.ts";
import { DOMAIN, hex, makeFleet, NOW, sayNode, sayRevoked, take, voice } from "./fleet_fixture.ts";

const SUBJECTS = fleetSubjects(DOMAIN);
const SUBJECT = SUBJECTS.gossip("ada");
/** Of the node whose gate it is. */
const ASK = SUBJECTS.ask("ivan");
const MINUTE = 60_000;

function epochs(epoch = 0): EpochStore & { epoch: number } {
  const store = {
    epoch,
    read: () => store.epoch,
    write(next: number) {
      store.epoch = next;
    },
  };
  return store;
}

function speaker(name: string, store = epochs(), trustDomain = DOMAIN): Voice {
  return new Voice({ trustDomain, signer: voice(name), store });
}

const fleet = makeFleet();

function gateOf(startedAt = 0): Gate {
  const state = fleet.state();
  return gateWith(state, startedAt);
}

function gateWith(state: FleetState, startedAt: number): Gate {
  const place = { trustDomain: DOMAIN, subjects: SUBJECTS, node: "ivan", startedAt };
  return new Gate({ ...place, authorOf: (key) => authorOf(state, key) });
}

const message = (text = "hello", subject = SUBJECT) => ({ subject, type: "statements", payload: Buffer.from(text) });
const at = (now = NOW, subject = SUBJECT) => ({ subject, now });
const codeOf = (answer: GateAnswer): string => (answer.ok ? "ok" : answer.code);

describe("Gate", () => {
  test("admit() takes messages in order and counts those that never came", () => {
    const [gate, ada] = [gateOf(), speaker("ada")];
    const sent = [0, 1, 2, 3].map((n) => ada.seal(message(`${n}`), NOW).bytes);
    expect(gate.admit(sent[0] as Uint8Array, at())).toMatchObject({ ok: true, node: "ada", missed: 0 });
    expect(gate.admit(sent[3] as Uint8Array, at())).toMatchObject({ ok: true, missed: 2 });
    expect(gate.counts()).toMatchObject({ accepted: 2, missed: 2 });
  });

  test("admit() refuses each fault by its own reason, counts it, and its windows stand still", () => {
    const state = fleet.state();
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    const gate = gateWith(state, NOW - 10);
    const ada = speaker("ada");
    const sent = [0, 1, 2].map((n) => ada.seal(message(`${n}`), NOW).bytes) as [Uint8Array, Uint8Array, Uint8Array];
    const forged = Uint8Array.from(ada.seal(message("secret"), NOW).bytes);
    forged[forged.length - 12] = (forged.at(-12) ?? 0) ^ 1;
    const changed = Uint8Array.from(forged);
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    expect(codeOf(gate.admit(sent[1], at()))).toBe("ok");
    const late = (now: number) => ada.seal(message("late"), now).bytes;
    const cases: readonly [string, Uint8Array, number?, string?][] = [
      ["replayed", sent[1]],
      ["reordered", sent[0]],
      ["wrong_subject", sent[2], NOW, SUBJECTS.gossip("ben")],
      ["wrong_trust_domain", speaker("ada", epochs(), "other.org").seal(message(), NOW).bytes],
      ["author_unknown", speaker("eve").seal(message(), NOW).bytes],
      ["author_revoked", speaker("ben").seal(message(), NOW).bytes],
      ["malformed", changed],
      ["malformed", new Uint8Array(3)],
      ["too_large", new Uint8Array(ENVELOPE_BYTES_MAX + 1)],
      ["from_future", late(NOW + 60 * MINUTE)],
      ["stale", late(NOW - 60 * MINUTE)],
      ["stale", late(NOW - 11)],
      ["not_asked", ada.seal({ ...message(), inReplyTo: "00".repeat(16) }, NOW).bytes],
    ];
    const before = gate.counts();
    for (const [code, bytes, now, subject] of cases) expect(codeOf(gate.admit(bytes, at(now, subject)))).toBe(code);
    const { refused, accepted } = gate.counts();
    expect(accepted).toBe(before.accepted);
    expect(Object.values(refused).reduce((sum, count) => sum + count, 0)).toBe(cases.length);
    expect(refused).toMatchObject({ replayed: 1, reordered: 1, stale: 2, malformed: 2 });
    expect(codeOf(gate.admit(sent[2], at()))).toBe("ok");
  });

  test("admit() hears at once when the clock goes back behind its start, and takes nothing of before the start again", () => {
    const [HOUR, SECOND] = [60 * MINUTE, 1000];
    // It began at NOW, by a clock that was an hour ahead.
    const [gate, ada] = [gateOf(NOW + HOUR), speaker("ada")];
    const sealed = (time: number) => ada.seal(message(`${time}`), time).bytes;
    const heardBefore = sealed(NOW - 10 * SECOND);
    const early = sealed(NOW + 2 * SECOND);
    expect(codeOf(gate.admit(early, at(NOW + HOUR + 2 * SECOND)))).toBe("stale");
    const first = sealed(NOW + 5 * SECOND - 30);
    expect(codeOf(gate.admit(first, at(NOW + 5 * SECOND)))).toBe("ok");
    const replays = [heardBefore, first, early].map((bytes) => codeOf(gate.admit(bytes, at(NOW + 6 * SECOND))));
    expect(replays).toEqual(["stale", "replayed", "stale"]);
    expect(codeOf(gate.admit(sealed(NOW + 7 * SECOND), at(NOW + 7 * SECOND)))).toBe("ok");
  });

  test("admit() takes nothing of before its start when the clock goes ahead and comes back", () => {
    const [gate, ada] = [gateOf(NOW), speaker("ada")];
    const sealed = (time: number) => ada.seal(message(`${time}`), time).bytes;
    const heardBefore = sealed(NOW - 10_000);
    expect(codeOf(gate.admit(sealed(NOW + 60 * MINUTE), at(NOW + 60 * MINUTE)))).toBe("ok");
    expect(codeOf(gate.admit(heardBefore, at(NOW + 5000)))).toBe("stale");
    expect(codeOf(gate.admit(sealed(NOW + 6000), at(NOW + 6000)))).toBe("ok");
  });

  test("admit() refuses an envelope after any one bit was turned", () => {
    const { bytes } = speaker("ada").seal(message(), NOW);
    const gate = gateOf();
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(gate.admit(changed, at()).ok).toBe(false);
    }
  });

  test("admit() shows whom to tell that he is revoked, where he signed the message himself", () => {
    const state = fleet.state();
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    const gate = gateWith(state, 0);
    const { bytes } = speaker("ben").seal(message(), NOW);
    expect(gate.admit(bytes, at())).toMatchObject({
      code: "author_revoked",
      envelope: { author: voice("ben").publicKey },
    });
    const forged = Uint8Array.from(bytes);
    const signature = forged.length - 4 - Buffer.byteLength("hello") - 1;
    forged[signature] = (forged[signature] ?? 0) ^ 1;
    expect(gate.admit(forged, at())).toMatchObject({ code: "author_revoked", envelope: undefined });
  });

  test("admit() keeps a window for each author and subject", () => {
    const [gate, ada] = [gateOf(), speaker("ada")];
    for (const _ of [1, 2, 3]) expect(codeOf(gate.admit(ada.seal(message(), NOW).bytes, at()))).toBe("ok");
    expect(codeOf(gate.admit(ada.seal(message("", ASK), NOW).bytes, at(NOW, ASK)))).toBe("ok");
    const other = SUBJECTS.gossip("iris");
    expect(codeOf(gate.admit(speaker("iris").seal(message("", other), NOW).bytes, at(NOW, other)))).toBe("ok");
  });

  test("admit() refuses a member's message on any subject but its own and this node's, and so opens no window for it", () => {
    const [gate, ada] = [gateOf(), speaker("ada")];
    const invented = [
      ...["ben", "x", "ada.x", "*", ""].map(SUBJECTS.gossip),
      ...[SUBJECTS.ask("ada"), SUBJECTS.ask("ben"), SUBJECTS.bundle, SUBJECTS.join("ada"), "gossip.ada", ""],
    ];
    for (const subject of invented) {
      const { bytes } = ada.seal(message("x", subject), NOW);
      expect([subject, codeOf(gate.admit(bytes, at(NOW, subject)))]).toEqual([subject, "wrong_subject"]);
    }
    expect(gate.counts()).toMatchObject({ accepted: 0, refused: { wrong_subject: invented.length } });
  });

  test("admit() hears new authors though those of before are gone, and an author of many names on a few alone", () => {
    const state = fleet.state();
    const gate = new Gate({
      ...{ trustDomain: DOMAIN, subjects: SUBJECTS, node: "ivan", startedAt: 0, authorsMax: 2 },
      authorOf: (key) => authorOf(state, key),
    });
    const hear = (name: string, now = NOW, as = name) => {
      const subject = SUBJECTS.gossip(as);
      return codeOf(gate.admit(speaker(name).seal(message("x", subject), now).bytes, at(now, subject)));
    };
    expect([hear("ada"), hear("ben"), hear("iris")]).toEqual(["ok", "ok", "too_many_authors"]);
    take(state, sayRevoked(voice("olga"), { type: "node", value: "ben" }));
    // Looked for once a minute at most: a full gate must not look through itself for each message.
    expect([hear("iris"), hear("iris", NOW + MINUTE)]).toEqual(["too_many_authors", "ok"]);
    const names = Array.from({ length: 10 }, (_, i) => `zoe-${i}`);
    for (const name of names) take(state, sayNode(voice("iris"), name, { key: hex(voice("ada").publicKey) }));
    const said = names.map((name) => hear("ada", NOW + MINUTE, name));
    expect(said.filter((code) => code === "ok")).toHaveLength(AUTHOR_SUBJECTS_MAX - 1);
    expect(said.at(-1)).toBe("too_many_authors");
  });

  test("admitReply() takes the answer to its question alone, whatever the clocks", () => {
    const gate = gateOf();
    const asked = speaker("ada").seal(message(), NOW);
    const reply = { ...message("answer"), inReplyTo: asked.id };
    const { bytes } = speaker("iris").seal(reply, NOW - 60 * MINUTE);
    expect(gate.admitReply(bytes, { subject: SUBJECT, inReplyTo: asked.id })).toMatchObject({ ok: true, node: "iris" });
    const other = { subject: SUBJECT, inReplyTo: "11".repeat(16) };
    expect(codeOf(gate.admitReply(bytes, other))).toBe("not_asked");
    expect(codeOf(gate.admitReply(speaker("iris").seal(message(), NOW).bytes, other))).toBe("not_asked");
    expect(codeOf(gate.admitReply(speaker("eve").seal(reply, NOW).bytes, { ...other, inReplyTo: asked.id }))).toBe(
      "author_unknown",
    );
  });

  test("parseEnvelope() throws nothing but envelope_malformed on mangled octets", () => {
    const next = random(5);
    const { bytes } = speaker("ada").seal(message("x".repeat(80)), NOW);
    for (let round = 0; round < 3000; round += 1) {
      const mangled = round % 3 === 0 ? new Uint8Array(draw(next, 400)) : Uint8Array.from(bytes);
      for (let i = draw(next, 12); i >= 0; i -= 1) mangled[draw(next, mangled.length)] = draw(next, 256);
      try {
        parseEnvelope(mangled.subarray(0, mangled.length - draw(next, 3)));
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "envelope_malformed" });
      }
    }
  });

  test("sealEnvelope() will not sign what is out of bounds", () => {
    const draft = { trustDomain: DOMAIN, subject: SUBJECT, epoch: 1, sequence: 1, time: NOW, type: "x", inReplyTo: "" };
    const payload = new Uint8Array(PAYLOAD_BYTES_MAX + 1);
    expect(() => sealEnvelope({ ...draft, payload }, voice("ada"))).toThrow(RangeError);
    expect(() => sealEnvelope({ ...draft, payload: new Uint8Array() }, fleet.root)).toThrow(RangeError);
  });
});

describe("Voice", () => {
  test("a node restored from an old disk image is told, by a proof of its own, and is heard again", () => {
    const gate = gateOf();
    const disk = epochs(4);
    const first = speaker("ada", disk);
    const image = disk.epoch;
    gate.admit(first.seal(message(), NOW).bytes, at());
    const second = speaker("ada", disk);
    gate.admit(second.seal(message(), NOW).bytes, at());
    gate.admit(second.seal(message(), NOW).bytes, at());

    const restored = speaker("ada", epochs(image - 1));
    const refused = gate.admit(restored.seal(message(), NOW).bytes, at());
    expect(refused).toMatchObject({ ok: false, code: "rolled_back" });
    const proof = (refused.ok ? undefined : refused.proof) as Uint8Array;
    expect(restored.recover(proof)).toBe(true);
    expect(restored.epoch).toBe(second.epoch + 1);
    expect(codeOf(gate.admit(restored.seal(message(), NOW).bytes, at()))).toBe("ok");
    expect(restored.recover(proof)).toBe(false);
  });

  test("recover() jumps from the same epoch too, when more was said in it than is remembered", () => {
    const gate = gateOf();
    const before = speaker("ada", epochs(6));
    for (const _ of [1, 2, 3]) gate.admit(before.seal(message(), NOW).bytes, at());
    const after = speaker("ada", epochs(6));
    const refused = gate.admit(after.seal(message(), NOW).bytes, at());
    expect(refused).toMatchObject({ ok: false, code: "reordered" });
    expect(after.recover((refused.ok ? undefined : refused.proof) as Uint8Array)).toBe(true);
    expect(codeOf(gate.admit(after.seal(message(), NOW).bytes, at()))).toBe("ok");
  });

  test("recover() believes no peer: only this node's own signature, in this trust domain", () => {
    const store = epochs(1);
    const ada = speaker("ada", store);
    const { proof } = parseEnvelope(speaker("iris", epochs(99)).seal(message(), NOW).bytes);
    const foreign = parseEnvelope(speaker("ada", epochs(99), "other.org").seal(message(), NOW).bytes);
    const own = parseEnvelope(speaker("ada", epochs(99)).seal(message(), NOW).bytes);
    const forged = Uint8Array.from(own.proof);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    for (const shown of [proof, foreign.proof, forged, new Uint8Array(), new Uint8Array(4096)]) {
      expect(ada.recover(shown)).toBe(false);
    }
    expect(store.epoch).toBe(2);
    expect(readProof(own.proof)).toMatchObject({ epoch: 100, sequence: 1 });
    expect(ada.recover(own.proof)).toBe(true);
    expect(store.epoch).toBe(101);
  });

  test("a voice begins a new epoch on disk before its first word", () => {
    const store = epochs(7);
    const ada = speaker("ada", store);
    expect(store.epoch).toBe(8);
    expect(parseEnvelope(ada.seal(message(), NOW).bytes)).toMatchObject({ epoch: 8, sequence: 1 });
  });
});
