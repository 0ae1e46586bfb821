// What is known of one process before any label is made: the kernel's facts of its exec, or what /proc shows. Never judges it.

import { type BodyOf, PROCESS_FLAG } from "../../abi.ts";
import { ARGV_MAX, isArgvCut, ownUserNamespace, parseCgroup, readProcess, TEXT_MAX } from "./proc.ts";
import type { ProcessFolder } from "./process_folder.ts";
import { type LooksWanted, looksFor, type WantedLabels } from "./wanted.ts";

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
  /** In a user namespace other than the daemon's: whoever made that one mounts there what he likes, so that its paths are his word. */
  readonly hasForeignPaths: boolean;
  /** As execve got it, when the kernel ran an interpreter for it; else empty. */
  readonly script: string;
  readonly argv: readonly string[];
  /** Effective ones, of the initial user namespace. */
  readonly uid: number;
  readonly gid: number;
  /** Undefined, as the two below: nobody looked. */
  readonly capabilities: bigint | undefined;
  readonly noNewPrivs: boolean | undefined;
  /** SECCOMP_MODE_* */
  readonly seccomp: number | undefined;
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
    hasForeignPaths: facts.nsUser !== ownUserNamespace(),
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
  const { stat, status, exe, userNamespace, argv, cgroup, isArgvCut: isCut } = readProcess(pid);
  const { parentPid, startTimeNs, name } = stat;
  const { uid, gid, capabilities, noNewPrivs, seccomp } = status;
  return {
    ...{
      pid,
      parentPid,
      startTimeNs,
      name,
      exe,
      hasForeignPaths: userNamespace !== ownUserNamespace(),
      script: "",
      argv: splitArguments(argv, isCut),
    },
    ...{ uid, gid, capabilities, noNewPrivs, seccomp, cgroup, exeStamp: undefined },
  };
}

/**
 * The same of a process whose folder is open, as far as these labels need it, with the program that all of it is of (as ProcessFolder.program has
 * it): what was read belongs to that one or to one that ran before, so that whoever knows the program of an earlier moment knows whether there was
 * an exec in between. Each look costs microseconds, and there is one at each call and push.
 */
export function evidenceOfFolder(
  folder: ProcessFolder,
  wanted: WantedLabels,
): { readonly evidence: ProcessEvidence; readonly program: string } {
  const looks = looksFor(wanted);
  const exe = folder.exe();
  const hasForeignPaths = folder.userNamespace() !== ownUserNamespace();
  const argv = looks.argv ? (folder.tryRead("cmdline", ARGV_MAX) ?? "") : "";
  const cgroup = looks.cgroup ? parseCgroup(folder.tryRead("cgroup", TEXT_MAX) ?? "") : "";
  const { uid, gid, capabilities, noNewPrivs, seccomp } = privilegesOf(folder, looks);
  // Last: what came before was of the program that it names, or of one before that.
  const stat = folder.stat();
  const { parentPid, startTimeNs, name } = stat;
  const evidence = {
    pid: folder.pid,
    parentPid,
    startTimeNs,
    name,
    exe,
    hasForeignPaths,
    script: "",
    argv: splitArguments(argv, isArgvCut(argv)),
    uid,
    gid,
    capabilities,
    noNewPrivs,
    seccomp,
    cgroup,
    exeStamp: undefined,
  };
  return { evidence, program: folder.program(stat) };
}

type Privileges = Pick<ProcessEvidence, "uid" | "gid" | "capabilities" | "noNewPrivs" | "seccomp">;

function privilegesOf(folder: ProcessFolder, looks: LooksWanted): Privileges {
  if (looks.status) return folder.status();
  const { uid, gid } = folder.owner();
  return { uid, gid, capabilities: undefined, noNewPrivs: undefined, seccomp: undefined };
}

/** Of arguments that were cut the last is left out: its beginning could pass for another one. */
function splitArguments(text: string, isCut: boolean): readonly string[] {
  if (text === "") return [];
  const all = (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
  return isCut ? all.slice(0, -1) : all;
}
