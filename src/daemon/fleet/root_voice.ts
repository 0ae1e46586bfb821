// Where a root's key is: tells the fleet which roots the trust domain has, step by step as they come, retire and are revoked.

import { type ListedRoot, listRoots, openRootKey, type RootListOptions } from "../../ca.ts";
import { RiprapError } from "../../error.ts";
import type { RootEntry } from "../../federation/body.ts";
import { keyIdOf, rootPoint } from "../../federation/curve.ts";
import { FleetState } from "../../federation/fleet_state.ts";
import { openStatementStore } from "../../federation/fleet_store.ts";
import type { Change } from "../../federation/outcome.ts";
import { DOMAIN_BUNDLE, isSuccession } from "../../federation/statement.ts";
import { type KnownRoot, nextEntries, nextRecord } from "../../federation/succession.ts";
import { say } from "./member.ts";

/** A root brings in the next one first, and the next one says then that the first has retired. */
const STEPS_MAX = 3;

/**
 * Says what is not said yet; answers it. Nothing where no root that the fleet believes has its key on this node. Throws RiprapError `roots_too_much` when
 * the first of it is more than a record holds.
 */
export function sayRoots(state: FleetState, options: RootListOptions): readonly Change[] {
  const roots = listRoots(options);
  const isAlone = state.roots === undefined && roots.length < 2;
  if (isAlone || !roots.some(({ isHeld }) => isHeld)) return [];
  const said: Change[] = [];
  for (let i = 0; i < STEPS_MAX; i++) {
    const changes = tryNext(state, roots, options);
    if (changes instanceof RiprapError && said.length === 0) throw changes;
    if (changes instanceof RiprapError || changes.length === 0) break;
    said.push(...changes);
  }
  return said;
}

/** What was said before it must be spread. */
function tryNext(...about: Parameters<typeof sayNext>): readonly Change[] | RiprapError {
  try {
    return sayNext(...about);
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "roots_too_much") return thrown;
    throw thrown;
  }
}

/**
 * Before a root speaks no more (`ending`: its certificate, DER), or another is made (undefined): throws RiprapError `roots_too_much` unless the fleet
 * could be told of it.
 */
export function requireSayable(state: FleetState, options: RootListOptions, ending: Uint8Array | undefined): void {
  const roots = listRoots(options);
  if (!roots.some(({ isHeld }) => isHeld)) return;
  const next: KnownRoot =
    ending === undefined
      ? { certificate: new Uint8Array(1), state: "trusted", keep: [] }
      : { certificate: ending, state: "retired", keep: wordsOf(state, ending) };
  const others = roots.filter(({ certificate }) => Buffer.compare(certificate, next.certificate) !== 0);
  nextEntries(state.roots, [...others.map((root) => describe(state, root)), next]);
}

/** What there would be to say of the roots here, for a root whose key is elsewhere; undefined when the fleet knows all of it. */
export function unsaidRoots(state: FleetState, options: RootListOptions): readonly RootEntry[] | undefined {
  const roots = listRoots(options);
  if (state.roots === undefined && roots.length < 2) return undefined;
  return nextEntries(
    state.roots,
    roots.map((root) => describe(state, root)),
  );
}

/** For a command that works on the files: the daemon, when it starts, spreads what it finds. */
export function sayRootsBeside(options: RootsBeside): void {
  sayRoots(stateBeside(options), options);
}

/** The same for requireSayable. */
export function requireSayableBeside(options: RootsBeside, ending: Uint8Array | undefined): void {
  requireSayable(stateBeside(options), options, ending);
}

type RootsBeside = RootListOptions & { readonly trustDomain: string };

function stateBeside(options: RootsBeside): FleetState {
  const { trustDomain, store } = options;
  const known = listRoots(options).filter(({ phase }) => phase !== "revoked");
  const roots = known.flatMap(({ certificate }) => rootPoint(certificate) ?? []);
  return new FleetState({ trustDomain, roots, store: openStatementStore(store) });
}

function sayNext(state: FleetState, roots: readonly ListedRoot[], options: RootListOptions): readonly Change[] {
  const speaker = findSpeaker(state, roots);
  if (speaker === undefined) return [];
  const author = openRootKey(speaker.certificate, options);
  try {
    const known = roots.map((root) => describe(state, root, speaker));
    const body = nextRecord(state.roots, known, { trustDomain: state.trustDomain, author });
    return body === undefined ? [] : say(state, draftOf(body, options.now), author);
  } finally {
    author.close();
  }
}

/** The one that signs, once the fleet believes it; before that the one that the fleet has believed for longest. */
function findSpeaker(state: FleetState, roots: readonly ListedRoot[]): ListedRoot | undefined {
  const held = roots.filter(({ isHeld, phase, certificate }) => {
    const point = rootPoint(certificate);
    return isHeld && phase !== "revoked" && point !== undefined && state.isRootTrusted(point);
  });
  const active = state.roots === undefined ? undefined : held.find(({ phase }) => phase === "active");
  return active ?? held[0];
}

function describe(state: FleetState, root: ListedRoot, speaker?: ListedRoot): KnownRoot {
  const { certificate, phase } = root;
  const isEnded = phase === "revoked" || (phase === "retired" && root !== speaker);
  const entry: RootEntry["state"] = !isEnded ? "trusted" : phase === "revoked" ? "revoked" : "retired";
  return { certificate, state: entry, keep: isEnded ? wordsOf(state, certificate) : [] };
}

/** What the root said about who issues and who operates: it stands when the root is gone. */
function wordsOf(state: FleetState, certificate: Uint8Array): readonly string[] {
  const said = state.listByAuthor(keyIdOf(rootPoint(certificate) ?? new Uint8Array()));
  return said.filter((statement) => !isSuccession(statement)).map(({ hash }) => hash.slice(0, 32));
}

function draftOf(body: Uint8Array, time: number): Parameters<typeof say>[1] {
  return { kind: "bundle", name: DOMAIN_BUNDLE, time, body };
}
