// This node's place in the fleet: its fleet key, its NATS key, and on the node that holds the root the first words of the fleet.

import { hash, randomBytes } from "node:crypto";
import { authorityIdOf, type KeyStore, listIntermediates } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { AUTHORITIES_MAX, writeBody } from "../../federation/body.ts";
import { keyIdOf, openEd25519, SEED_BYTES, type Signer } from "../../federation/curve.ts";
import type { FleetState } from "../../federation/fleet_state.ts";
import type { Change } from "../../federation/outcome.ts";
import { type Statement, type StatementDraft, signStatement } from "../../federation/statement.ts";
import { GROUP_DEFAULT, OPERATOR_REVOCATION_TYPES } from "../../fleet.ts";
import type { Store } from "../../store.ts";

const FLEET_KEY = "fleet";
const NATS_KEY = "nats";
const OPERATOR_KEY = "operator";
const ROOT_KEY = "root";
/** The operator that `riprap init` makes: the person who has this node. */
const FIRST_OPERATOR = "admin";
const RESOURCE_KINDS = ["WorkloadIdentity", "Service", "AccessPolicy", "NodeGroup", "TrustDomain"];

/** The Ed25519 key with which this node speaks; made at first use. */
export function openFleetKey(keys: KeyStore): Signer {
  return openSeed(keys, FLEET_KEY);
}

/** The seed of this node's nkey for the broker, made by `create` at first use. A broker chooses what an nkey signs: never the key of the fleet. */
export function openNkeySeed(keys: KeyStore, create: () => Uint8Array): Uint8Array {
  if (!keys.has(NATS_KEY)) keys.sealSecret(NATS_KEY, create());
  return keys.openSecret(NATS_KEY);
}

/** The key of the person who has this node; undefined where none was made. */
export function openOperatorKey(keys: KeyStore): Signer | undefined {
  return keys.has(OPERATOR_KEY) ? openSeed(keys, OPERATOR_KEY) : undefined;
}

/** The same, made at first use: it may say nothing before the root gives it rights. */
export function ensureOperatorKey(keys: KeyStore): Signer {
  return openSeed(keys, OPERATOR_KEY);
}

function openSeed(keys: KeyStore, name: string): Signer {
  if (!keys.has(name)) {
    const fresh = randomBytes(SEED_BYTES);
    keys.sealSecret(name, fresh);
    fresh.fill(0);
  }
  const seed = keys.openSecret(name);
  try {
    if (seed.length !== SEED_BYTES || seed.every((octet) => octet === 0)) throw brokenSeed(name);
    return openEd25519(seed);
  } finally {
    seed.fill(0);
  }
}

/** A file that a crash left empty or full of zeros must not become a key that everybody knows. */
function brokenSeed(name: string): RiprapError {
  const remedy = "restore it from a copy, or remove it: another is made, which the fleet has to be told of first";
  return new RiprapError("fleet_key_invalid", `Cannot use the key ca/${name}.key: it is no Ed25519 seed; ${remedy}`);
}

export interface FirstNode {
  readonly nodeName: string;
  /** Of this node's intermediate, 65 bytes. */
  readonly authorityKey: Uint8Array;
  readonly idPrefixes: readonly string[];
  readonly signer: Signer;
  /** Its public nkey for the broker; undefined while it has none. */
  readonly nkey?: string | undefined;
}

/**
 * On the node that holds the root: the root makes it an issuing node and its person an operator, and it takes itself into the roster. Says only
 * what is not said yet.
 */
export function foundFleet(state: FleetState, keys: KeyStore, clock: Clock, node: FirstNode): readonly Change[] {
  if (!keys.has(ROOT_KEY) || state.standing.grantOf("node", node.nodeName) !== undefined) return [];
  const root = keys.openKey(ROOT_KEY);
  try {
    const key = Buffer.from(node.signer.publicKey).toString("hex");
    const time = clock.now();
    const issuer = writeBody("issuer", { key, authority: undefined, idPrefixes: node.idPrefixes });
    const operator = writeBody("operator", {
      key: Buffer.from(openSeed(keys, OPERATOR_KEY).publicKey).toString("hex"),
      kinds: RESOURCE_KINDS,
      groups: undefined,
      idPrefixes: undefined,
      revoke: OPERATOR_REVOCATION_TYPES,
    });
    const member = writeBody("node", {
      key,
      authorities: [authorityIdOf(node.authorityKey)],
      group: GROUP_DEFAULT,
      idPrefixes: node.idPrefixes,
      admittedBy: "init",
      admittedAt: time,
      nkey: node.nkey,
    });
    return [
      ...say(state, { kind: "issuer", name: node.nodeName, time, body: issuer }, root),
      ...say(state, { kind: "operator", name: FIRST_OPERATOR, time, body: operator }, root),
      ...say(state, { kind: "node", name: node.nodeName, time, body: member }, node.signer),
    ];
  } finally {
    root.close();
  }
}

/** Signs a word of this key's own and takes it. Throws TypeError when the key has no right to it: the caller looked before. */
export function say(
  state: FleetState,
  draft: Omit<StatementDraft, "trustDomain" | "revision">,
  signer: Signer,
): readonly Change[] {
  const statement = signDraft(state, draft, signer);
  const outcome = state.apply(statement, draft.time);
  if (outcome.outcome === "accepted") return outcome.changes;
  const why = outcome.outcome === "refused" ? outcome.message : outcome.outcome;
  throw new TypeError(`a word of this node's own was not taken: ${why}`);
}

export function signDraft(
  state: Pick<FleetState, "draft">,
  draft: Omit<StatementDraft, "trustDomain" | "revision">,
  signer: Signer,
): Statement {
  return signStatement(state.draft(draft, keyIdOf(signer.publicKey)), signer);
}

/** On an issuing node: its own entry names the authority and the nkey that it has now. */
export function refreshOwnEntry(state: FleetState, clock: Clock, node: FirstNode): readonly Change[] {
  const key = Buffer.from(node.signer.publicKey).toString("hex");
  const grant = state.standing.grantOf("node", node.nodeName);
  if (grant?.body.key !== key || state.standing.grantsOfKey("issuer", key).length === 0) return [];
  const authority = authorityIdOf(node.authorityKey);
  const { authorities, nkey } = grant.body;
  if (authorities[0] === authority && (node.nkey === undefined || node.nkey === nkey)) return [];
  const others = authorities.filter((other) => other !== authority).slice(0, AUTHORITIES_MAX - 1);
  const body = { ...grant.body, authorities: [authority, ...others], nkey: node.nkey ?? nkey };
  return say(
    state,
    { kind: "node", name: node.nodeName, time: clock.now(), body: writeBody("node", body) },
    node.signer,
  );
}

/** The entry of a node with another authority; undefined when it names that already, or there is no such node. */
export function authorityDraft(
  state: FleetState,
  clock: Clock,
  { node, authorityKey }: { readonly node: string; readonly authorityKey: Uint8Array },
): Omit<StatementDraft, "trustDomain" | "revision"> | undefined {
  const grant = state.standing.grantOf("node", node);
  const authority = authorityIdOf(authorityKey);
  if (grant === undefined || grant.body.authorities[0] === authority) return undefined;
  const others = grant.body.authorities.filter((other) => other !== authority).slice(0, AUTHORITIES_MAX - 1);
  const body = writeBody("node", { ...grant.body, authorities: [authority, ...others] });
  return { kind: "node", name: node, time: clock.now(), body };
}

/**
 * On an issuing node: other nodes that were enrolled by file are in the roster too, with the authority that was signed for them. They have no voice in
 * the fleet; the key in their entry is one that nobody has.
 */
export function admitEnrolled(
  state: FleetState,
  clock: Clock,
  by: { signer: Signer; store: Store; nodeName: string },
): readonly Change[] {
  const key = Buffer.from(by.signer.publicKey).toString("hex");
  if (state.standing.grantsOfKey("issuer", key).length === 0) return [];
  return listIntermediates(by.store, clock.now()).flatMap((signed) => {
    const { nodeName, authority, idPrefixes, signedAt, token } = signed;
    // One whose joining was cut short asks again, and has a voice.
    if (token !== undefined) return [];
    const grant = state.standing.grantOf("node", nodeName);
    const isVoiceless = grant === undefined || grant.body.admittedBy === BY_FILE;
    const isRevoked = state.standing.revocationsOf(`node:${nodeName}`).length > 0;
    if (nodeName === by.nodeName || !isVoiceless || isRevoked || grant?.body.authorities.includes(authority) === true)
      return [];
    const body = {
      key: hash("sha256", `riprap node without a voice ${authority}`, "hex"),
      authorities: [authority, ...(grant?.body.authorities ?? [])].slice(0, AUTHORITIES_MAX),
      group: GROUP_DEFAULT,
      idPrefixes: idPrefixes ?? [`spiffe://${state.trustDomain}/`],
      admittedBy: BY_FILE,
      admittedAt: signedAt,
    };
    const draft = { kind: "node", name: nodeName, time: clock.now(), body: writeBody("node", body) } as const;
    return say(state, draft, by.signer);
  });
}

const BY_FILE = "file";
