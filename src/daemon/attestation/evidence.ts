// What is known of one process before any label is made: the kernel's facts of its exec, or what /proc shows. Never judges it.

import { type BodyOf, PROCESS_FLAG } from "../../abi.ts";
import { type ProcessFiles, programOf, readProcess } from "./proc.ts";
import type { WantedLabels } from "./wanted.ts";

/** What tells one version of a file from the next. */
export interface FileStamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export interface ProcessEvidence {
  readonly pid: number;
  readonly parentPid: number;
  /** Since boot; from /proc it is exact to one clock tick. */
  readonly startTimeNs: bigint;
  readonly name: string;
  readonly exe: string;
  /** As execve got it, when the kernel ran an interpreter for it; else empty. */
  readonly script: string;
  readonly argv: readonly string[];
  /** Effective ones, of the initial user namespace. */
  readonly uid: number;
  readonly gid: number;
  readonly capabilities: bigint;
  readonly noNewPrivs: boolean;
  /** SECCOMP_MODE_* */
  readonly seccomp: number;
  /** Of the unified hierarchy, from its root; empty: unknown. */
  readonly cgroup: string;
  /** The executable at exec; undefined when only /proc speaks. */
  readonly exeStamp: FileStamp | undefined;
}

/** The kernel's facts, taken at exec: nothing that the process does later changes them. */
export function evidenceOfFacts(facts: BodyOf<"process">): ProcessEvidence {
  return {
    pid: facts.pid,
    parentPid: facts.parentPid,
    startTimeNs: facts.startTimeNs,
    name: facts.comm,
    exe: facts.exe,
    script: facts.script,
    argv: splitArguments(facts.argv, (facts.flags & PROCESS_FLAG.argvCut) !== 0),
    uid: facts.euid,
    gid: facts.egid,
    capabilities: facts.capsEffective,
    noNewPrivs: (facts.flags & PROCESS_FLAG.noNewPrivs) !== 0,
    seccomp: facts.seccomp,
    cgroup: facts.cgroup,
    exeStamp: {
      dev: facts.exeDev,
      ino: facts.exeIno,
      size: facts.exeSize,
      mtimeNs: facts.exeMtimeNs,
      ctimeNs: facts.exeCtimeNs,
    },
  };
}

/** What /proc shows of a running process. RiprapError `not_found` when there is none. A process can have changed its argv. */
export function evidenceOfProc(pid: number): ProcessEvidence {
  return evidenceOfFiles(pid, readProcess(pid));
}

/**
 * The same, as far as these labels need it, with the program that all of it is of (as tryReadProgram has it): what was read belongs to that
 * one or to one that ran before, so that whoever knows the program of an earlier moment knows whether there was an exec in between.
 */
export function evidenceOfProgram(
  pid: number,
  wanted: WantedLabels,
): { readonly evidence: ProcessEvidence; readonly program: string } {
  const argv = ["process:cmdline", "process:arg[", "process:script"].some((prefix) => wanted.hasPrefix(prefix));
  const cgroup = ["systemd:", "container:"].some((prefix) => wanted.hasPrefix(prefix));
  const files = readProcess(pid, { argv, cgroup });
  return { evidence: evidenceOfFiles(pid, files), program: programOf(pid, files.stat) };
}

function evidenceOfFiles(pid: number, { status, stat, ...links }: ProcessFiles): ProcessEvidence {
  return {
    pid,
    parentPid: stat.parentPid,
    startTimeNs: stat.startTimeNs,
    name: stat.name,
    exe: links.exe,
    script: "",
    argv: splitArguments(links.argv, links.isArgvCut),
    uid: status.uid,
    gid: status.gid,
    capabilities: status.capabilities,
    noNewPrivs: status.noNewPrivs,
    seccomp: status.seccomp,
    cgroup: links.cgroup,
    exeStamp: undefined,
  };
}

/** Of arguments that were cut the last is left out: its beginning could pass for another one. */
function splitArguments(text: string, isCut: boolean): readonly string[] {
  if (text === "") return [];
  const all = (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
  return isCut ? all.slice(0, -1) : all;
}
