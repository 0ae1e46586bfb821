// The database of a node that is set up: opened when it is the one that the node had, and begun anew by a person when that is lost.

import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import { checkStore, openStore, type Store, storePath } from "../store.ts";
import { Authorities } from "./authorities.ts";
import { beginSequence } from "./bundle.ts";
import { CrlTable } from "./crl_table.ts";
import { keyIdentifier } from "./key.ts";
import { loadNodeState, openGround } from "./node_state.ts";
import { caFiles, requireCa } from "./state.ts";

export interface RebuildOptions {
  readonly stateDir: string;
  readonly clock: Clock;
}

export interface Rebuilt {
  /** Where the old files are now; none when there were none. */
  readonly putAside: readonly string[];
  /** Sentences about what was in the old database alone, and what to do about it. */
  readonly lost: readonly string[];
}

/** What SQLite keeps beside the file itself. */
const SUFFIXES = ["", "-wal", "-shm"];
const LOST = [
  "What this node revoked is good again here: revoke it again. A fleet's revocations come back from its nodes.",
  "Of what was signed before there is no account, so that it cannot be revoked one by one: `riprap authority renew` and then `riprap revoke authority:` with the old intermediate's key identifier end all of it.",
  "Roots and token keys that were prepared, published or retired are forgotten, but for those in ca/bundle.pem and ca/jwt.key: `riprap authority list` shows what is left.",
  "Bundles of other trust domains are fetched again; those that a person set are set again with `riprap bundle set`.",
  "Join tokens that were not used yet are worth nothing: make others with `riprap token create`.",
];

/** Throws RiprapError `store_lost` when a node that is set up has no database any more, and what openStore throws. */
export function openNodeStore(stateDir: string): Store {
  const path = storePath(stateDir);
  if (existsSync(caFiles(stateDir).record)) requireStore(path);
  return openStore(path);
}

/** Reads the whole of the database of a node that is set up. Throws RiprapError `store_lost`, and what checkStore throws. */
export function checkNodeStore(stateDir: string): void {
  const path = storePath(stateDir);
  requireStore(path);
  checkStore(path);
}

function requireStore(path: string): void {
  const fact = absence(path);
  if (fact === undefined) return;
  const held = "and it alone knows what this node signed, revoked and published";
  const remedy =
    "restore the file from a copy; without one, `riprap authority rebuild` begins another and says what is lost";
  throw new RiprapError("store_lost", `Cannot use the database ${path}: ${fact}, ${held}; ${remedy}`);
}

/**
 * Puts a lost or damaged database aside and begins another with what the files under ca/ know. While no daemon runs. Throws RiprapError
 * `ca_not_initialised`, `store_intact`, and what openAuthority throws for the files.
 */
export function rebuildNodeStore({ stateDir, clock }: RebuildOptions): Rebuilt {
  requireCa(stateDir);
  const path = storePath(stateDir);
  if (absence(path) === undefined && !isDamaged(path)) {
    const fact = "it can be read from its beginning to its end";
    throw new RiprapError("store_intact", `Cannot begin another database in the place of ${path}: ${fact}`);
  }
  const now = clock.now();
  // Whole before it takes the place: one that was cut off here is made again.
  const next = `${path}.next`;
  for (const suffix of SUFFIXES) rmSync(`${next}${suffix}`, { force: true });
  const store = openStore(next);
  try {
    const { issuers } = loadNodeState(openGround({ stateDir, store }), now);
    // Numbers that others have seen are far below: they count changes, and these seconds.
    const floor = Math.floor(now / 1000);
    beginSequence(store, BigInt(floor));
    const { publicKey } = issuers[0];
    if (publicKey !== undefined) new CrlTable(store).begin(keyIdentifier(publicKey), floor);
    new Authorities({ stateDir, clock, store });
  } finally {
    store.close();
  }
  const putAside = putAsideAt(path, new Date(now).toISOString().replaceAll(/[-:]|\.\d+/g, ""));
  renameSync(next, path);
  return { putAside, lost: LOST };
}

function absence(path: string): string | undefined {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) return "it is gone";
  return size === 0 ? "it is empty" : undefined;
}

function isDamaged(path: string): boolean {
  try {
    checkStore(path);
    return false;
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "store_damaged") return true;
    throw thrown;
  }
}

function putAsideAt(path: string, stamp: string): readonly string[] {
  return SUFFIXES.flatMap((suffix) => {
    if (!existsSync(`${path}${suffix}`)) return [];
    const aside = `${path}.lost-${stamp}${suffix}`;
    renameSync(`${path}${suffix}`, aside);
    return [aside];
  });
}
