// Finds processes that were there before the module, or before the rules that select them. Asks the module to take them on; never does itself.

import { readdirSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { FILTER_HAS, TABLE_FILTER, TABLE_HEAD, TABLE_PEER, TABLE_RULE, TABLE_SUBJECT } from "../abi.ts";
import { evidenceOfProc, type ProcessEvidence } from "./attestation/evidence.ts";

/** Processes that are looked at in one turn of the loop: about two milliseconds. */
const SCAN_CHUNK = 16;

/** A filter of the compiled table; `has` says which of the rest count. */
export interface ProcessFilter {
  readonly has: number;
  readonly uid: number;
  readonly name: string;
  readonly exe: string;
}

/** The filters of a compiled table: what a process must look like for any rule to be able to select it. */
export function readFilters(table: Uint8Array): readonly ProcessFilter[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const head = TABLE_HEAD.decode(view, 0);
  const start =
    TABLE_HEAD.size + head.subjects * TABLE_SUBJECT.size + head.rules * TABLE_RULE.size + head.peers * TABLE_PEER.size;
  const strings = start + head.filters * TABLE_FILTER.size;
  const decoder = new TextDecoder();
  const text = (offset: number, length: number) =>
    decoder.decode(table.subarray(strings + offset, strings + offset + length));
  return Array.from({ length: head.filters }, (_, index) => {
    const { has, uid, name, nameLen, exe, exeLen } = TABLE_FILTER.decode(view, start + index * TABLE_FILTER.size);
    return { has, uid, name: text(name, nameLen), exe: text(exe, exeLen) };
  });
}

/** Could any rule select a process like this? The same question as the module's. */
export function maySelect(
  filters: readonly ProcessFilter[],
  evidence: Pick<ProcessEvidence, "uid" | "name" | "exe">,
): boolean {
  return filters.some(
    ({ has, uid, name, exe }) =>
      ((has & FILTER_HAS.uid) === 0 || uid === evidence.uid) &&
      ((has & FILTER_HAS.name) === 0 || name === evidence.name) &&
      ((has & FILTER_HAS.exe) === 0 || exe === evidence.exe),
  );
}

export interface AdoptionScan {
  readonly filters: readonly ProcessFilter[];
  /** Already in the module's records. */
  isKnown(pid: number): boolean;
}

/** Every process of /proc that a rule may select and the module has no record of. Kernel threads and this daemon never. */
export async function listAdoptable({ filters, isKnown }: AdoptionScan): Promise<readonly ProcessEvidence[]> {
  if (filters.length === 0) return [];
  const found: ProcessEvidence[] = [];
  for (const [index, name] of readdirSync("/proc").entries()) {
    // Others wait for their identity meanwhile.
    if (index % SCAN_CHUNK === 0) await nextTurn();
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid || isKnown(pid)) continue;
    const evidence = tryReadEvidence(pid);
    if (evidence !== undefined && evidence.exe !== "" && maySelect(filters, evidence)) found.push(evidence);
  }
  return found;
}

function tryReadEvidence(pid: number): ProcessEvidence | undefined {
  try {
    return evidenceOfProc(pid);
  } catch {
    return undefined; // it ended while we looked
  }
}
