// A fleet in memory for tests: a root, issuing nodes, operators and nodes, and what each of them says.
import { createECDH, createPrivateKey, hash, sign } from "node:crypto";
import { type Bodies, type BodyKind, writeBody } from "../../src/federation/body.ts";
import { openEd25519, type Signer } from "../../src/federation/curve.ts";
import { FleetState, type StatementStore } from "../../src/federation/fleet_state.ts";
import { draftResource } from "../../src/federation/resource_claim.ts";
import { draftSerialSet } from "../../src/federation/serial_set.ts";
import { type Statement, type StatementDraft, signStatement } from "../../src/federation/statement.ts";
import { type FleetScope, type RevocationTarget, writeTarget } from "../../src/fleet.ts";
import { SerialSet } from "../../src/serial_set.ts";
import { draw, random } from "../random.ts";

export const DOMAIN = "example.org";
export const NOW = Date.parse("2026-11-21T12:00:00Z");
export const ALL = [`spiffe://${DOMAIN}/`];

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** A voice whose key is always the same for a name. */
export function voice(name: string): Signer {
  return openEd25519(hash("sha256", `voice ${name}`, "buffer"));
}

/** Key identifier of an authority, always the same for a name. */
export function authorityId(name: string): string {
  return hash("sha256", `authority ${name}`, "hex").slice(0, 40);
}

/** A root whose key is always the same for a name, so that a seeded run is the same run. */
export function makeRoot(name = "root"): Signer {
  const ecdh = createECDH("prime256v1");
  ecdh.setPrivateKey(hash("sha256", `root ${name}`, "buffer"));
  const point = ecdh.getPublicKey();
  const text = (bytes: Buffer) => bytes.toString("base64url");
  const [d, x, y] = [text(ecdh.getPrivateKey()), text(point.subarray(1, 33)), text(point.subarray(33))];
  const key = createPrivateKey({ key: { kty: "EC", crv: "P-256", d, x, y }, format: "jwk" });
  return { publicKey: Uint8Array.from(point), sign: (bytes) => Uint8Array.from(sign("sha256", bytes, key)) };
}

type Rest = Partial<Pick<StatementDraft, "revision" | "time" | "expiresAt" | "isDeleted" | "scope" | "trustDomain">>;

/** One statement by `signer`. */
export function say<Kind extends Exclude<BodyKind, "roots">>(
  signer: Signer,
  [kind, name]: readonly [Kind, string],
  body: Bodies[Kind],
  rest: Rest = {},
): Statement {
  const draft = { trustDomain: DOMAIN, kind, name, revision: 1, time: NOW, body: writeBody(kind, body), ...rest };
  return signStatement(draft, signer);
}

export function sayNode(signer: Signer, name: string, over: Partial<Bodies["node"]> = {}, rest: Rest = {}): Statement {
  const body = {
    key: hex(voice(name).publicKey),
    authorities: [authorityId(name)],
    group: "default",
    idPrefixes: ALL,
    admittedBy: "token",
    admittedAt: NOW,
    ...over,
  };
  return say(signer, ["node", name], body, rest);
}

export function sayRevoked(
  signer: Signer,
  target: RevocationTarget,
  { keep = [], ...rest }: Rest & { keep?: readonly string[] } = {},
): Statement {
  return say(signer, ["revocation", writeTarget(target)], { reason: "test", keep }, rest);
}

/** Serial numbers as a CA makes them, always the same, in ascending order. */
export class SerialNumbers {
  readonly bytes: Uint8Array;
  readonly #from = 0x4190_0000_0000;
  readonly #until: number;

  constructor(count: number) {
    const next = random(41);
    const bytes = Buffer.alloc(20 * count);
    for (let i = 0; i < count; i++) {
      for (const at of [4, 8, 12, 16]) bytes.writeUInt32BE(draw(next, 2 ** 32), 20 * i + at);
      bytes.writeUIntBE(this.#from + 100 * i, 20 * i, 6);
    }
    this.bytes = Uint8Array.from(bytes);
    this.#until = this.#from + 100 * count;
  }

  hex(index: number): string {
    return hex(this.bytes.subarray(20 * index, 20 * index + 20));
  }

  /** Those of them that are revoked; `longer` makes its span end later. */
  set(isRevoked: (index: number) => boolean, { end, longer = 0 }: { end: number; longer?: number }): SerialSet {
    const span = { from: this.#from, until: this.#until + longer };
    return SerialSet.make({ serials: this.bytes, ...span, end, isRevoked });
  }
}

export function saySet(signer: Signer, set: SerialSet, of: { authority: string; over?: Partial<StatementDraft> }) {
  const draft = draftSerialSet(set, { authority: of.authority, time: NOW });
  return signStatement({ trustDomain: DOMAIN, revision: 1, ...draft, ...of.over }, signer);
}

export function saySeen(name: string, rest: Rest = {}): Statement {
  const body = { addresses: ["192.0.2.1"], version: "1", applied: undefined, failure: undefined };
  return say(voice(name), ["presence", name], body, rest);
}

export interface ResourceOptions extends Rest {
  readonly to?: FleetScope;
}

export function sayResource(
  signer: Signer,
  document: unknown,
  { to = { type: "all" }, ...rest }: ResourceOptions = {},
) {
  const draft = draftResource({ trustDomain: DOMAIN, document, scope: to, revision: 1, time: NOW });
  return signStatement({ ...draft, ...rest }, signer);
}

/** That there is no resource `kind/name` any more. */
export function sayDeleted(signer: Signer, name: string, rest: Rest = {}): Statement {
  const draft = {
    trustDomain: DOMAIN,
    kind: "resource",
    name,
    revision: 1,
    time: NOW,
    body: new Uint8Array(),
  } as const;
  return signStatement({ ...draft, isDeleted: true, ...rest }, signer);
}

export function service(name: string, port = 80): unknown {
  return {
    apiVersion: "riprap.io/v1",
    kind: "Service",
    metadata: { name },
    spec: { addresses: [{ address: "192.0.2.7", ports: [port] }] },
  };
}

export function workload(name: string, workloadID: string): unknown {
  return {
    apiVersion: "riprap.io/v1",
    kind: "WorkloadIdentity",
    metadata: { name },
    spec: { workloadID, selectors: [{ "process:uid": 1000 }] },
  };
}

export function policy(name: string, workloads: string): unknown {
  const spec = { workloads, egress: [] };
  return { apiVersion: "riprap.io/v1", kind: "AccessPolicy", metadata: { name }, spec };
}

export interface Fleet {
  readonly root: Signer;
  readonly grants: readonly Statement[];
  /** A state that has heard the grants. */
  state(store?: StatementStore): FleetState;
}

/** A root, the issuing nodes `iris` and `ivan`, the operators `olga` (all) and `otto` (one group, one prefix), the nodes `ada` and `ben`. */
export function makeFleet(): Fleet {
  const root = makeRoot();
  const rights = { kinds: ["WorkloadIdentity", "Service", "AccessPolicy", "NodeGroup", "TrustDomain"] };
  const grants = [
    ...["iris", "ivan"].map((name) =>
      say(root, ["issuer", name], { key: hex(voice(name).publicKey), authority: undefined, idPrefixes: ALL }),
    ),
    say(root, ["operator", "olga"], {
      key: hex(voice("olga").publicKey),
      ...rights,
      groups: undefined,
      idPrefixes: undefined,
      revoke: ["serial", "id", "node", "authority", "token", "executable"],
    }),
    say(root, ["operator", "otto"], {
      key: hex(voice("otto").publicKey),
      kinds: ["WorkloadIdentity", "AccessPolicy"],
      groups: ["edge"],
      idPrefixes: [`spiffe://${DOMAIN}/edge/`],
      revoke: ["id"],
    }),
    ...["iris", "ivan", "ada", "ben"].map((name) => sayNode(voice("iris"), name)),
  ];
  return {
    root,
    grants,
    state(store) {
      const state = new FleetState({
        trustDomain: DOMAIN,
        roots: [root.publicKey],
        ...(store === undefined ? {} : { store }),
      });
      for (const statement of grants) take(state, statement);
      return state;
    },
  };
}

/** Applies what must be taken. */
export function take(state: FleetState, statement: Statement): void {
  const outcome = state.apply(statement, NOW);
  if (outcome.outcome !== "accepted") throw new Error(`${statement.key}: ${JSON.stringify(outcome)}`);
}

/** The code of a refusal, or the outcome. */
export function outcomeOf(state: FleetState, statement: Statement, now = NOW): string {
  const outcome = state.apply(statement, now);
  return outcome.outcome === "refused" ? outcome.code : outcome.outcome;
}

export function memoryStore(): StatementStore & { readonly rows: Map<string, Uint8Array> } {
  const rows = new Map<string, Uint8Array>();
  return {
    rows,
    load: () => [...rows.values()],
    put: (key, bytes) => void rows.set(key, bytes),
    remove: (key) => void rows.delete(key),
    atomically: (work) => work(),
  };
}
