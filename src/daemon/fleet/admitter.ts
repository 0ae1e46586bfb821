// Lets nodes in on an issuing node: makes tokens, answers who comes with one, and holds those who wait for a person's word.

import { authorityIdOf, publicKeysOf } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { EnrolmentGrant, EnrolmentRequest } from "../../enrolment.ts";
import { describeError, RiprapError } from "../../error.ts";
import { bearerFingerprint, decidePending, judgeJoin } from "../../federation/admission.ts";
import { writeBody } from "../../federation/body.ts";
import { keyIdOf } from "../../federation/curve.ts";
import { encodeEnrolmentGrant, parseEnrolmentRequest } from "../../federation/enrolment.ts";
import {
  type JoinGrant,
  type JoinReply,
  type JoinRequest,
  openJoin,
  parseJoin,
  refuseJoin,
} from "../../federation/join.ts";
import type { Statement } from "../../federation/statement.ts";
import { DOMAIN_BUNDLE } from "../../federation/succession.ts";
import { createToken, type TokenBearer, type TokenRecord } from "../../federation/token.ts";
import type { Message, Transport } from "../../federation/transport.ts";
import type { Admission } from "../../fleet.ts";
import type { Fleet } from "../fleet.ts";
import type { Log } from "../log.ts";
import { certificatesForToken } from "./broker_ca.ts";
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
    as: { idPrefixes: readonly string[]; replace: boolean; isRetry: boolean },
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

/** What a new node is given at once. */
const STATEMENTS_MAX = 64;

export class Admitter {
  readonly counters = { joined: 0, refused: 0 };
  readonly #parts: AdmitterParts;
  #isListening = false;
  /** One at a time: a token's record is read and written between two requests. */
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: AdmitterParts) {
    this.#parts = parts;
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
    if (tokens.list().length >= TOKENS_MAX)
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

  /** Answers one request to join. Never rejects. */
  answer(message: Message): void {
    this.#turn = this.#turn
      .then(() => this.#answer(message))
      .catch((thrown: unknown) => {
        this.#parts.log.error("a request to join could not be answered", { error: describeError(thrown) });
      });
  }

  async #answer(message: Message): Promise<void> {
    const { tokens, trustDomain } = this.#parts;
    if (!this.isIssuer) return;
    try {
      const sealed = parseJoin(message.data);
      const record = tokens.get(sealed.tokenId);
      if (record === undefined) throw new RiprapError("token_unknown", "it is of no token of this node");
      const opened = openJoin(sealed, tokens.secret, { trustDomain, record });
      message.respond(opened.seal(await this.#judge(record, opened)));
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      this.#refuse(thrown.code, "a stranger", thrown.message);
      message.respond(refuseJoin(thrown.code));
    }
  }

  async #judge(record: TokenRecord, opened: { request: JoinRequest; enc: string }): Promise<JoinReply> {
    const { fleet, tokens, roots, clock } = this.#parts;
    const now = clock.now();
    const context = { state: fleet.state, roots: roots(), now };
    const { verdict, record: next } = judgeJoin(record, opened, context);
    // Kept before it is answered, so that no answer can be had twice.
    tokens.put(next);
    const { nodeName } = opened.request;
    if (verdict.outcome === "refused") {
      this.#refuse(verdict.code, nodeName, `${verdict.message}; token ${record.id}`);
      return { outcome: "refused", code: verdict.code, message: verdict.message, time: now };
    }
    if (verdict.outcome === "pending") {
      if (record.use.state === "unused") fleet.journal.record("node waits", nodeName, `token ${record.id}`);
      return { outcome: "pending", time: now };
    }
    try {
      const grant = await this.#grant(next, opened.request, verdict);
      this.counters.joined += 1;
      fleet.journal.record("node joined", nodeName, `token ${record.id}${verdict.isRetry ? ", asked again" : ""}`);
      return { outcome: "granted", grant };
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      tokens.put({ ...next, use: record.use });
      this.#refuse(thrown.code, nodeName, thrown.message);
      return { outcome: "refused", code: thrown.code, message: thrown.message, time: now };
    }
  }

  async #grant(
    { id, admission }: TokenRecord,
    request: JoinRequest,
    { bearer: { key }, isRetry }: { bearer: TokenBearer; isRetry: boolean },
  ): Promise<JoinGrant> {
    const { fleet, clock, sign, servers } = this.#parts;
    const { idPrefixes, group, mayReplace } = admission;
    const enrolment = parseEnrolmentRequest(request.enrolment);
    // Its name was proven by the token and its key; a machine that lost the answer asks with the same.
    const replace = mayReplace || fleet.state.standing.grantOf("node", enrolment.nodeName)?.body.key === key;
    const grant = await sign(enrolment, { idPrefixes, replace, isRetry });
    const [authority = new Uint8Array()] = publicKeysOf(grant.chain.slice(0, 1));
    const body = writeBody("node", {
      key,
      authorities: [authorityIdOf(authority)],
      group,
      idPrefixes,
      admittedBy: `token ${id}`,
      admittedAt: clock.now(),
      ...(request.nkey === "" ? {} : { nkey: request.nkey }),
    });
    fleet.say({ kind: "node", name: enrolment.nodeName, time: clock.now(), body });
    return {
      enrolment: encodeEnrolmentGrant(grant),
      statements: this.#introduction(enrolment.nodeName),
      servers,
      credentials: "",
    };
  }

  /** From the root to the new node's own entry, and to this one's, whom it can ask for all the rest. */
  #introduction(nodeName: string): readonly Statement[] {
    const { fleet } = this.#parts;
    const roots = fleet.state.get("bundle", DOMAIN_BUNDLE);
    const issuers = [...fleet.state.list("issuer"), ...fleet.state.list("operator")];
    const nodes = [fleet.state.get("node", nodeName), fleet.state.get("node", this.#parts.nodeName)];
    const first = roots === undefined ? [] : [roots];
    // Its own entry must be among them, whatever the number of issuing nodes: the rest it asks for.
    const own = nodes.filter((statement) => statement !== undefined);
    return [...first, ...own, ...issuers].slice(0, STATEMENTS_MAX);
  }

  #requireIssuer(what: string): void {
    if (this.isIssuer) return;
    const remedy = "do it on an issuing node: riprap fleet nodes shows which are";
    throw new RiprapError("not_issuer", `Cannot ${what}: this node does not issue; ${remedy}`);
  }

  #refuse(code: string, nodeName: string, detail: string): void {
    this.counters.refused += 1;
    this.#parts.fleet.journal.record("join refused", nodeName, `${code}: ${detail}`);
    this.#parts.log.warn("a request to join was refused", { node: nodeName, code, reason: detail });
  }
}
