// Lets nodes in on an issuing node: makes tokens, answers who comes with one, and holds those who wait for a person's word.

import { authorityIdOf, publicKeysOf } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { EnrolmentGrant, EnrolmentRequest } from "../../enrolment.ts";
import { describeError, RiprapError } from "../../error.ts";
import {
  admittedByToken,
  bearerFingerprint,
  decidePending,
  isReplayed,
  type JoinRefusalCode,
  judgeJoin,
} from "../../federation/admission.ts";
import { writeBody } from "../../federation/body.ts";
import { keyIdOf } from "../../federation/curve.ts";
import { encodeEnrolmentGrant, parseEnrolmentRequest } from "../../federation/enrolment.ts";
import {
  type JoinGrant,
  type JoinReply,
  type JoinRequest,
  type OpenedJoin,
  openJoin,
  parseJoin,
  refuseJoin,
} from "../../federation/join.ts";
import type { Statement } from "../../federation/statement.ts";
import { createToken, type TokenBearer, type TokenRecord } from "../../federation/token.ts";
import type { Message, Transport } from "../../federation/transport.ts";
import type { Admission } from "../../fleet.ts";
import type { Fleet } from "../fleet.ts";
import type { Log } from "../log.ts";
import { certificatesForToken } from "./broker_ca.ts";
import { type RefusedJoin, RefusedJoins } from "./refused_join.ts";
import { TOKENS_MAX, type TokenTable } from "./token_table.ts";

export interface AdmitterParts {
  readonly fleet: Fleet;
  readonly tokens: TokenTable;
  readonly nodeName: string;
  readonly trustDomain: string;
  /** Fingerprints: of all in the bundle, and of the one under which this node signs now. */
  roots(): { readonly all: readonly string[]; readonly signing: string };
  readonly servers: readonly string[];
  /** PEM of the CA of the broker's certificates; empty for those of the system. */
  readonly ca: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Signs an intermediate for a node that is let in. */
  sign(
    request: EnrolmentRequest,
    as: { idPrefixes: readonly string[]; replace: boolean; isRetry: boolean; token: string },
  ): Promise<EnrolmentGrant>;
}

export interface NewToken {
  readonly admission: Admission;
  readonly lifetimeMs: number;
  readonly createdBy: string;
  readonly servers?: readonly string[];
  /** What lets its bearer speak to the broker: a credentials file or an nkey seed. A secret, and kept nowhere. */
  readonly credentials?: string;
}

export interface MadeToken {
  readonly text: string;
  readonly record: TokenRecord;
  /** The CA of the broker is too large for it: the other machine needs natsCa. */
  readonly lacksBrokerCa: boolean;
}

export interface PendingNode {
  readonly token: string;
  readonly nodeName: string;
  /** Eight groups that are printed on both machines. */
  readonly fingerprint: string;
  readonly since: number;
}

/** Requests that wait for their turn, each of 64 KiB at most: the last of them is answered before its machine gives up. */
const WAITING_MAX = 256;
/** A machine asks again when an answer is lost, and no sooner. */
const WAITING_OF_TOKEN_MAX = 8;

/** What a new node is given at once. */
const STATEMENTS_MAX = 64;

export class Admitter {
  readonly counters = { joined: 0, refused: 0 };
  readonly #parts: AdmitterParts;
  #isListening = false;
  /** One at a time: a token's record is read and written between two requests. */
  #turn: Promise<void> = Promise.resolve();
  #waiting = 0;
  readonly #waitingOf = new Map<string, number>();
  readonly #refused: RefusedJoins;

  constructor(parts: AdmitterParts) {
    this.#parts = parts;
    const { fleet, clock, log } = parts;
    this.#refused = new RefusedJoins({ journal: fleet.journal, clock, log });
  }

  /** Until the signal: tells how many were refused. */
  run(signal: AbortSignal): Promise<void> {
    return this.#refused.run(signal);
  }

  get isIssuer(): boolean {
    const self = this.#parts.fleet.self;
    return self?.isIssuer === true && self.state === "active";
  }

  /** Where requests for this node's tokens come. */
  get subject(): string {
    const { fleet, tokens } = this.#parts;
    return fleet.subjects.join(keyIdOf(tokens.secret.keyPair.publicKey));
  }

  /** The token's text is a secret and nowhere kept. Throws RiprapError `not_issuer`, `too_many`, `token_lifetime_invalid`, `token_servers_invalid`, `token_credentials_invalid`. */
  create({ admission, lifetimeMs, createdBy, servers, credentials = "" }: NewToken): MadeToken {
    const { tokens, trustDomain, roots, clock, fleet, ca } = this.#parts;
    this.#requireIssuer("make a token");
    if (tokens.countLive(clock.now()) >= TOKENS_MAX)
      throw new RiprapError("too_many", `Cannot make a token: there are ${TOKENS_MAX}; wait until some have ended`);
    const brokerCa = certificatesForToken(ca);
    const made = createToken(
      tokens.secret,
      {
        trustDomain,
        rootFingerprint: roots().signing,
        servers: servers ?? this.#parts.servers,
        credentials,
        brokerCa: brokerCa ?? [],
        admission,
        createdBy,
        lifetimeMs,
      },
      clock.now(),
    );
    tokens.put(made.record);
    const carries = credentials === "" ? "" : ", with broker credentials";
    const whom = admission.nodeName ?? "any name";
    fleet.journal.record("token made", made.record.id, `by ${createdBy}, for ${whom}${carries}`);
    return { ...made, lacksBrokerCa: brokerCa === undefined };
  }

  list(): readonly TokenRecord[] {
    return this.#parts.tokens.list();
  }

  pending(): readonly PendingNode[] {
    return this.list().flatMap(({ id, use }) =>
      use.state === "pending"
        ? [
            {
              token: id,
              nodeName: use.bearer.nodeName,
              fingerprint: bearerFingerprint(use.bearer.key),
              since: use.bearer.at,
            },
          ]
        : [],
    );
  }

  /** A person's word. Throws RiprapError `not_found` when no such node waits. */
  decide(nodeName: string, decision: "approved" | "denied", by: string): void {
    const { tokens, fleet } = this.#parts;
    const record = this.list().find(({ use }) => use.state === "pending" && use.bearer.nodeName === nodeName);
    const next = record === undefined ? undefined : decidePending(record, decision);
    if (next === undefined) {
      const remedy = "see who waits with riprap node pending";
      throw new RiprapError("not_found", `Cannot decide about ${nodeName}: no node of this name waits here; ${remedy}`);
    }
    tokens.put(next);
    fleet.journal.record(`node ${decision}`, nodeName, `by ${by}, token ${next.id}`);
  }

  /** From when this node issues: a broker that holds each node to what it needs refuses the subscription of any other. */
  listen(transport: Pick<Transport, "subscribe"> | undefined): void {
    if (this.#isListening || transport === undefined || !this.isIssuer) return;
    this.#isListening = true;
    transport.subscribe(this.subject, (message) => this.answer(message));
  }

  /** Answers one request to join. Never throws. Only who has a token of this node gets into the queue. */
  answer(message: Message): void {
    if (!this.isIssuer) return;
    try {
      const { tokenId, opened } = this.#open(message.data);
      this.#enter(tokenId);
      this.#turn = this.#turn
        .then(() => this.#answer(message, { tokenId, opened }))
        .catch((thrown: unknown) => this.#failed(thrown))
        .finally(() => this.#leave(tokenId));
    } catch (thrown) {
      if (thrown instanceof RiprapError) this.#turnAway(thrown, message);
      else this.#failed(thrown);
    }
  }

  #turnAway(refusal: RiprapError, message: Message): void {
    const { code, message: detail } = refusal;
    this.#refuse({ code, nodeName: "a stranger", detail, token: refusal instanceof JoinRefusal ? refusal.token : "" });
    message.respond(refuseJoin(code));
  }

  #failed(thrown: unknown): void {
    this.#parts.log.error("a request to join could not be answered", { error: describeError(thrown) });
  }

  #open(data: Uint8Array): { readonly tokenId: string; readonly opened: OpenedJoin } {
    const { tokens, trustDomain } = this.#parts;
    const sealed = parseJoin(data);
    const { tokenId } = sealed;
    const record = tokens.get(tokenId);
    if (record === undefined) throw new RiprapError("token_unknown", "it is of no token of this node");
    const opened = openJoin(sealed, tokens.secret, { trustDomain, record });
    if (isReplayed(record, opened.enc)) throw new JoinRefusal("join_replayed", "it was answered before", tokenId);
    return { tokenId, opened };
  }

  #enter(tokenId: string): void {
    const own = this.#waitingOf.get(tokenId) ?? 0;
    if (this.#waiting >= WAITING_MAX || own >= WAITING_OF_TOKEN_MAX)
      throw new JoinRefusal("join_busy", `${this.#waiting} others wait for an answer`, tokenId);
    this.#waiting += 1;
    this.#waitingOf.set(tokenId, own + 1);
  }

  #leave(tokenId: string): void {
    const own = this.#waitingOf.get(tokenId) ?? 0;
    this.#waiting -= 1;
    if (own > 1) this.#waitingOf.set(tokenId, own - 1);
    else this.#waitingOf.delete(tokenId);
  }

  async #answer(
    message: Message,
    { tokenId, opened }: { readonly tokenId: string; readonly opened: OpenedJoin },
  ): Promise<void> {
    // As it is now: one that came before may have spent it.
    const record = this.#parts.tokens.get(tokenId);
    if (record !== undefined && this.isIssuer) message.respond(opened.seal(await this.#judge(record, opened)));
  }

  async #judge(record: TokenRecord, opened: { request: JoinRequest; enc: string }): Promise<JoinReply> {
    const { request } = opened;
    try {
      return await this.#admit(record, { ...opened, enrolment: parseEnrolmentRequest(request.enrolment) });
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      const { code, message } = thrown;
      this.#refuse({ code, nodeName: request.nodeName, detail: message, token: record.id });
      return { outcome: "refused", code, message, time: this.#parts.clock.now() };
    }
  }

  async #admit(
    record: TokenRecord,
    asked: { request: JoinRequest; enc: string; enrolment: EnrolmentRequest },
  ): Promise<JoinReply> {
    const { fleet, tokens, roots, clock } = this.#parts;
    const now = clock.now();
    const { verdict, record: next } = judgeJoin(record, asked, { state: fleet.state, roots: roots(), now });
    // Kept before it is answered, so that no answer can be had twice.
    tokens.put(next);
    const { nodeName } = asked.request;
    if (verdict.outcome === "refused") {
      const detail = `${verdict.message}; token ${record.id}`;
      this.#refuse({ code: verdict.code, nodeName, detail, token: record.id });
      return { outcome: "refused", code: verdict.code, message: verdict.message, time: now };
    }
    if (verdict.outcome === "pending") {
      if (record.use.state === "unused") fleet.journal.record("node waits", nodeName, `token ${record.id}`);
      return { outcome: "pending", time: now };
    }
    const signed = await this.#sign(next, asked.enrolment, verdict).catch((thrown: unknown) => {
      if (thrown instanceof RiprapError) tokens.put({ ...next, use: record.use });
      throw thrown;
    });
    // From here on the token stays spent: only the machine that has this certificate may ask again.
    const grant = this.#welcome(next, { request: asked.request, bearer: verdict.bearer, signed });
    this.counters.joined += 1;
    fleet.journal.record("node joined", nodeName, `token ${record.id}${verdict.isRetry ? ", asked again" : ""}`);
    return { outcome: "granted", grant };
  }

  #sign(
    { id, admission }: TokenRecord,
    enrolment: EnrolmentRequest,
    { bearer: { nodeName, key }, isRetry }: { bearer: TokenBearer; isRetry: boolean },
  ): Promise<EnrolmentGrant> {
    const { fleet, sign } = this.#parts;
    const { idPrefixes, mayReplace } = admission;
    // Its name was proven by the token and its key; a machine that lost the answer asks with the same.
    const replace = mayReplace || fleet.state.standing.grantOf("node", nodeName)?.body.key === key;
    return sign(enrolment, { idPrefixes, replace, isRetry, token: id });
  }

  /** Takes the node into the roster. Throws RiprapError `fleet_refused`. */
  #welcome(
    { id, admission: { idPrefixes, group } }: TokenRecord,
    joining: { readonly request: JoinRequest; readonly bearer: TokenBearer; readonly signed: EnrolmentGrant },
  ): JoinGrant {
    const { fleet, clock, servers } = this.#parts;
    const { request, bearer, signed } = joining;
    const { nodeName, key } = bearer;
    const [authority = new Uint8Array()] = publicKeysOf(signed.chain.slice(0, 1));
    const body = writeBody("node", {
      key,
      authorities: [authorityIdOf(authority)],
      group,
      idPrefixes,
      admittedBy: admittedByToken(id),
      admittedAt: clock.now(),
      ...(request.nkey === "" ? {} : { nkey: request.nkey }),
    });
    fleet.say({ kind: "node", name: nodeName, time: clock.now(), body });
    return {
      enrolment: encodeEnrolmentGrant(signed),
      statements: this.#introduction(nodeName),
      servers,
      credentials: "",
    };
  }

  /** From the root to the new node's own entry, and to this one's, whom it can ask for all the rest. */
  #introduction(nodeName: string): readonly Statement[] {
    const { fleet } = this.#parts;
    const issuers = [...fleet.state.list("issuer"), ...fleet.state.list("operator")];
    const nodes = [fleet.state.get("node", nodeName), fleet.state.get("node", this.#parts.nodeName)];
    // Its own entry must be among them, whatever the number of issuing nodes: the rest it asks for.
    const own = nodes.filter((statement) => statement !== undefined);
    return [...own, ...fleet.state.rootRecords, ...issuers].slice(0, STATEMENTS_MAX);
  }

  #requireIssuer(what: string): void {
    if (this.isIssuer) return;
    const remedy = "do it on an issuing node: riprap fleet nodes shows which are";
    throw new RiprapError("not_issuer", `Cannot ${what}: this node does not issue; ${remedy}`);
  }

  #refuse(refused: RefusedJoin): void {
    this.counters.refused += 1;
    this.#refused.note(refused);
  }
}

/** Of a request that was made with a token, and that waits for no turn. */
class JoinRefusal extends RiprapError {
  readonly token: string;

  constructor(code: JoinRefusalCode, fact: string, token: string) {
    super(code, `Cannot answer the request to join: ${fact}`);
    this.token = token;
  }
}
