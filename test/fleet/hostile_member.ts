// A member of the fleet in hostile hands, with its credentials for the broker and at last with its key: everything that it can say, and how much of it reached each daemon.

import { openNodeKeys } from "../../src/ca.ts";
import { systemClock } from "../../src/clock.ts";
import { openFleetKey, openNkeySeed } from "../../src/daemon/fleet/member.ts";
import { writeBody } from "../../src/federation/body.ts";
import type { Signer } from "../../src/federation/curve.ts";
import { type EnvelopeDraft, sealEnvelope } from "../../src/federation/envelope.ts";
import { writeMessage } from "../../src/federation/message.ts";
import { openNats } from "../../src/federation/nats.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { parseStatement, type Statement, type StatementDraft, signStatement } from "../../src/federation/statement.ts";
import { fleetSubjects } from "../../src/federation/subject.ts";
import type { Transport } from "../../src/federation/transport.ts";
import { draw, pick } from "../random.ts";
import { identityDocument, TRUST_DOMAIN } from "./fleet_park.ts";
import { readStatements } from "./invariant.ts";
import type { ParkNode } from "./park_node.ts";

const SUBJECTS = fleetSubjects(TRUST_DOMAIN);
/** Above an envelope's bound, below the broker's. */
const HUGE_BYTES = 600_000;
/** Later than any start of the true daemon. */
const EPOCH = 1_000_000;
const PATIENCE_MS = 60_000;
const HOUR_MS = 3_600_000;

interface Heard {
  readonly subject: string;
  readonly data: Uint8Array;
}

/** Sent to all nodes, and to each by name: what every daemon has to refuse. */
export interface Tally {
  toAll: number;
  readonly to: Map<string, number>;
}

export class HostileMember {
  readonly heard: Heard[] = [];
  readonly tally: Tally = { toAll: 0, to: new Map() };
  readonly transport: Transport;
  readonly #node: ParkNode;
  readonly #key: Signer;
  readonly #random: () => number;
  #sequence = 0;

  constructor(node: ParkNode, { server, ca, random }: { server: string; ca: string; random: () => number }) {
    const keys = openNodeKeys(node.stateDir);
    const seed = openNkeySeed(keys, () => {
      throw new RangeError("a node that was connected has an nkey");
    });
    this.#node = node;
    this.#key = openFleetKey(keys);
    this.#random = random;
    const proof = { kind: "nkey", seed } as const;
    const place = { servers: [server], name: "hostile", ca, proof, inboxPrefix: SUBJECTS.inbox(node.name) };
    this.transport = openNats({ ...place, clock: systemClock, random });
    for (const subject of [SUBJECTS.allGossip, SUBJECTS.ask(node.name), `${SUBJECTS.inbox(node.name)}.>`, ">"])
      this.transport.subscribe(subject, ({ subject: at, data }) => void this.heard.push({ subject: at, data }));
  }

  /** One octet to all, which is not in the tally. */
  probe(): Promise<void> {
    return this.#send(SUBJECTS.gossip(this.#node.name), new Uint8Array(1));
  }

  /** Without the node's key: what was heard, altered, cut short, again and elsewhere; noise; messages of any size. */
  async publishForeign(count: number, names: readonly string[]): Promise<void> {
    const own = this.#node.name;
    const elsewhere = [
      ...names.flatMap((name) => [SUBJECTS.gossip(name), `${SUBJECTS.inbox(name)}.x`]),
      ...[SUBJECTS.bundle, SUBJECTS.join("x"), `${SUBJECTS.prefix}.other`, "riprap.else.gossip.x"],
      ...[
        "$SYS.REQ.SERVER.PING",
        `$JS.API.STREAM.DELETE.KV_${SUBJECTS.store}`,
        `$JS.API.STREAM.PURGE.KV_${SUBJECTS.store}`,
      ],
    ].filter((subject) => subject !== SUBJECTS.gossip(own));
    for (let i = 0; i < count; i++) {
      const data = this.#foreignBytes();
      const chance = this.#random();
      if (chance < 0.4) await this.#toAll(data);
      else if (chance < 0.8) await this.#to(pick(this.#random, names), data);
      // The broker lets none of it through.
      else await this.#send(pick(this.#random, elsewhere), data);
    }
  }

  /** With the node's key: envelopes that are wrong in one thing each. */
  async publishWrongEnvelopes(names: readonly string[]): Promise<void> {
    const payload = writeMessage({ type: "statements", statements: this.#wrongStatements() });
    const good = this.#draft("statements", payload);
    const first = this.#seal({ ...good, type: "same", payload: new Uint8Array() });
    // This one is taken: it says nothing, and begins the count.
    await this.#send(SUBJECTS.gossip(this.#node.name), first);
    const wrong: EnvelopeDraft[] = [
      { ...good, trustDomain: "other.example" },
      { ...good, subject: SUBJECTS.gossip(names[0] ?? "") },
      { ...good, time: systemClock.now() + HOUR_MS },
      { ...good, time: systemClock.now() - HOUR_MS },
      { ...good, epoch: 1 },
      { ...good, sequence: 0 },
      { ...good, inReplyTo: "00".repeat(16) },
    ];
    for (const data of [first, ...wrong.map((draft) => this.#seal(draft))]) await this.#toAll(data);
    for (const type of ["statements", "digest", "difference", "want", "root", "renew", "nothing"])
      for (const name of names)
        await this.#to(
          name,
          this.#seal({ ...this.#draft(type, payload, SUBJECTS.ask(name)), trustDomain: "other.example" }),
        );
  }

  /** With the node's key: envelopes that are right, of statements that are not. Answers how many statements each daemon was told, and how many messages that cannot be read. */
  async publishWrongWords(
    names: readonly string[],
  ): Promise<{ readonly statements: number; readonly unreadable: number }> {
    const statements = this.#wrongStatements();
    const payload = writeMessage({ type: "statements", statements });
    const noise = Uint8Array.from({ length: 300 }, () => draw(this.#random, 256));
    const publish = (subject: string, type: string, of: Uint8Array) =>
      this.#send(subject, this.#seal(this.#draft(type, of, subject)));
    const types = ["statements", "digest", "difference", "want"];
    await publish(SUBJECTS.gossip(this.#node.name), "statements", payload);
    for (const type of types) await publish(SUBJECTS.gossip(this.#node.name), type, noise);
    for (const name of names) {
      await publish(SUBJECTS.ask(name), "statements", payload);
      for (const type of types) await publish(SUBJECTS.ask(name), type, noise);
    }
    return { statements: 2 * statements.length, unreadable: 2 * types.length };
  }

  /** Into the broker's store, beside the true ones: statements that are not right, and halves of those that are. Answers how many. */
  async poisonStore(): Promise<number> {
    const store = await this.transport.store(SUBJECTS.store);
    if (store === undefined) return 0;
    const values: Uint8Array[] = [];
    for await (const value of store.list(AbortSignal.timeout(10_000))) values.push(value);
    const halves = values.map((value) => value.subarray(0, value.length / 2));
    let put = 0;
    for (const value of [...this.#wrongStatements().map(({ bytes }) => bytes), ...halves])
      if (await store.put(`poison${put}`, value)) put += 1;
    return put;
  }

  /** The keys of the statements in the broker's store. */
  async stored(): Promise<readonly string[]> {
    const store = await this.transport.store(SUBJECTS.store);
    const values = await Array.fromAsync(store?.list(AbortSignal.timeout(PATIENCE_MS)) ?? []);
    return values.map((value) => parseStatement(value).key);
  }

  /** Answers every question that is put to the node: with noise, with what was heard, and with statements that are not right. */
  answerQuestions(): void {
    this.transport.subscribe(SUBJECTS.ask(this.#node.name), ({ respond }) => respond(this.#foreignBytes()));
  }

  /** Words to which the node has no right, signed by it; and every true word, changed. */
  #wrongStatements(): Statement[] {
    const time = systemClock.now();
    const author = Buffer.from(this.#key.publicKey).toString("hex");
    const own = (draft: Omit<StatementDraft, "trustDomain" | "revision" | "time">) =>
      signStatement({ trustDomain: TRUST_DOMAIN, revision: 1000, time, ...draft }, this.#key);
    const rights = {
      kinds: ["WorkloadIdentity"],
      groups: undefined,
      idPrefixes: undefined,
      revoke: ["node", "id"],
    } as const;
    const everything = [`spiffe://${TRUST_DOMAIN}/`];
    const member = {
      authorities: ["00".repeat(20)],
      group: "default",
      idPrefixes: everything,
      admittedBy: "me",
      admittedAt: time,
    };
    const presence = { addresses: [], version: "0", applied: undefined, failure: undefined };
    const reason = writeBody("revocation", { reason: "mine", keep: [] });
    const planted = draftResource({
      ...{ trustDomain: TRUST_DOMAIN, document: identityDocument(9999), revision: 1000, time },
      scope: { type: "all" },
    });
    const unruly = [
      own({ kind: "node", name: "eve", body: writeBody("node", { key: author, ...member }) }),
      own({ kind: "node", name: this.#node.name, body: writeBody("node", { key: author, ...member }) }),
      own({
        kind: "issuer",
        name: "eve",
        body: writeBody("issuer", { key: author, authority: undefined, idPrefixes: everything }),
      }),
      own({ kind: "operator", name: "eve", body: writeBody("operator", { key: author, ...rights }) }),
      own({ kind: "presence", name: "node-0", body: writeBody("presence", presence) }),
      ...[
        "node:node-0",
        `id:spiffe://${TRUST_DOMAIN}/w/1`,
        `serial:${"11".repeat(20)}:01`,
        "operator:admin",
        "issuer:node-0",
      ].map((name) => own({ kind: "revocation", name, body: reason })),
      signStatement(planted, this.#key),
      signStatement({ ...planted, trustDomain: "other.example" }, this.#key),
    ];
    return [...unruly, ...this.#changedStatements()];
  }

  /** Under the signature of the true word. */
  #changedStatements(): Statement[] {
    return readStatements(this.#node.stateDir).flatMap((statement) => {
      // What nodes say of themselves may have moved on.
      if (["presence", "endpoint"].includes(statement.kind)) return [];
      const thief = { publicKey: statement.author, sign: () => statement.signature };
      const later = { ...statement, revision: statement.revision + 100 };
      const bodies = [later, { ...later, body: Uint8Array.from([...statement.body, 32]) }, { ...later, time: 1 }];
      return bodies.map((draft) => signStatement(draft, thief));
    });
  }

  #foreignBytes(): Uint8Array {
    const chance = this.#random();
    if (chance < 0.1) return new Uint8Array(HUGE_BYTES);
    if (chance < 0.3) return Uint8Array.from({ length: draw(this.#random, 400) }, () => draw(this.#random, 256));
    const { data } = this.heard.length > 0 ? pick(this.#random, this.heard) : { data: new Uint8Array(8) };
    return chance < 0.5 ? data : this.#altered(data);
  }

  #altered(bytes: Uint8Array): Uint8Array {
    const data = Uint8Array.from(bytes);
    const at = draw(this.#random, data.length);
    if (data.length > 0) data[at] = (data[at] ?? 0) ^ (1 + draw(this.#random, 255));
    return this.#random() < 0.2 ? data.subarray(0, draw(this.#random, data.length)) : data;
  }

  #draft(type: string, payload: Uint8Array, subject = SUBJECTS.gossip(this.#node.name)): EnvelopeDraft {
    this.#sequence += 1;
    const head = { trustDomain: TRUST_DOMAIN, subject, epoch: EPOCH, sequence: this.#sequence, inReplyTo: "" };
    return { ...head, time: systemClock.now(), type, payload };
  }

  #seal(draft: EnvelopeDraft): Uint8Array {
    return sealEnvelope(draft, this.#key).bytes;
  }

  async #toAll(data: Uint8Array): Promise<void> {
    await this.#send(SUBJECTS.gossip(this.#node.name), data);
    this.tally.toAll += 1;
  }

  async #to(name: string, data: Uint8Array): Promise<void> {
    await this.#send(SUBJECTS.ask(name), data);
    this.tally.to.set(name, (this.tally.to.get(name) ?? 0) + 1);
  }

  /** The client takes no more than it can get rid of. */
  async #send(subject: string, data: Uint8Array): Promise<void> {
    for (const end = performance.now() + PATIENCE_MS; !this.transport.publish(subject, data); await Bun.sleep(5))
      if (performance.now() > end) throw new Error(`the broker does not take what is said on ${subject}`);
  }
}
