// The process at the other end of a connection, as the kernel names it and pinned against the reuse of its number. Never believes the process itself.

import { closeSync } from "node:fs";
import { RiprapError } from "../../error.ts";
import { evidenceOfFolder, type ProcessEvidence } from "../attestation/evidence.ts";
import { isSameStart } from "../attestation/pin.ts";
import { readStatus } from "../attestation/proc.ts";
import { ProcessFolder } from "../attestation/process_folder.ts";
import { ALL_LABELS, type WantedLabels } from "../attestation/wanted.ts";
import { getsockoptBytes, pidfdIsAlive, pidfdOpen } from "../libc.ts";
import { findHolder, holdsSocket, type TcpSocket } from "./tcp_caller.ts";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERPIDFD = 77; // Linux 6.5
const UCRED_BYTES = 12;

export interface Caller {
  readonly transport: "unix" | "tcp";
  readonly pid: number;
  /** Effective, when it connected. */
  readonly uid: number;
  /** Since boot. With the PID it names one process, also after its end. */
  readonly startTimeNs: bigint;
  /** Does the process that connected still run? */
  isAlive(): boolean;
  /**
   * What is known of it now, at least as far as these labels need it. RiprapError `not_found` when it has ended, `not_reported` when the module has not spoken of it,
   * `another_program` when it has become another one since it connected: whoever shares the connection would be answered in its name.
   */
  evidence(wanted?: WantedLabels): ProcessEvidence;
  close(): void;
}

/** What the kernel module reported of running processes. */
export interface ProcessReports {
  /** Is there a module that reports every process that a rule may select? Then what it did not report has no identity. */
  readonly areComplete: boolean;
  find(pid: number): ProcessEvidence | undefined;
}

/** Without a module: only /proc speaks, where a process can change its own arguments. */
export const NO_REPORTS: ProcessReports = { areComplete: false, find: () => undefined };

/**
 * The process that connected the Unix socket `fd`. RiprapError `not_found` when it has ended, is outside of our PID namespace, or
 * cannot be told from one that took over its number.
 */
export function openCaller(fd: number, reports: ProcessReports = NO_REPORTS): Caller {
  const { pid, uid } = peerCredentials(fd);
  return pinned(peerPidfd(fd, { pid, uid }), pid, ({ folder, ...parts }) => {
    const { startTimeNs, program } = startOf(folder);
    // Alive after the reading, so what was opened and read was of this process.
    if (!pidfdIsAlive(parts.pidfd)) throw ended(pid);
    return callerOf({ transport: "unix", pid, uid, startTimeNs, program, folder, ...parts }, reports);
  });
}

/**
 * The process that has the other end of a loopback connection open. RiprapError `not_found`, or `shared` when it is not one alone; `another_user`
 * when it is not of the user who made the socket.
 */
export async function openTcpCaller(socket: TcpSocket, reports: ProcessReports = NO_REPORTS): Promise<Caller> {
  const holder = await findHolder(socket.inode);
  const { pid } = holder;
  return pinned(openPidfd(pid), pid, ({ folder, ...parts }) => {
    const { startTimeNs, program } = startOf(folder);
    const { uid } = folder.owner();
    // Asked last: what was read before was of the process that has it.
    const isHeld = () => holdsSocket(holder, socket.inode);
    if (!isHeld() || !pidfdIsAlive(parts.pidfd)) throw ended(pid);
    if (uid !== socket.uid)
      throw new RiprapError("another_user", `Cannot tell who calls: user ${socket.uid} made the connection of ${pid}`);
    return callerOf({ transport: "tcp", pid, uid, startTimeNs, program, folder, isHeld, ...parts }, reports);
  });
}

/** Opens the folder of the process besides, and gives both back when that or the work fails. */
function pinned(pidfd: number, pid: number, work: (parts: Pick<Pinned, "pidfd" | "folder">) => Caller): Caller {
  let folder: ProcessFolder | undefined;
  try {
    folder = ProcessFolder.open(pid);
    return work({ pidfd, folder });
  } catch (thrown) {
    folder?.close();
    closeSync(pidfd);
    throw thrown;
  }
}

function startOf(folder: ProcessFolder): Pick<Pinned, "startTimeNs" | "program"> {
  const stat = folder.stat();
  return { startTimeNs: stat.startTimeNs, program: folder.program(stat) };
}

/** Of the process that connected: all that is known at the cost of one system call. RiprapError `not_found`. */
export function peerCredentials(fd: number): { pid: number; uid: number } {
  const bytes = getsockoptBytes(fd, SOL_SOCKET, SO_PEERCRED, UCRED_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const pid = bytes.length === UCRED_BYTES ? view.getInt32(0, true) : 0;
  if (pid <= 0)
    throw new RiprapError("not_found", "Cannot tell who calls: it is outside of the daemon's PID namespace");
  return { pid, uid: view.getUint32(4, true) };
}

function peerPidfd(fd: number, { pid, uid }: { pid: number; uid: number }): number {
  try {
    const bytes = getsockoptBytes(fd, SOL_SOCKET, SO_PEERPIDFD, 4);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getInt32(0, true);
  } catch (thrown) {
    // Any other failure means that the process has ended: its number may be another's by now.
    if (!(thrown instanceof RiprapError) || thrown.code !== "ENOPROTOOPT") throw ended(pid, thrown);
  }
  const pidfd = openPidfd(pid);
  // Before Linux 6.5 nothing ties the number to who connected; a process of another user at least is not it.
  if (readStatus(pid).uid === uid) return pidfd;
  closeSync(pidfd);
  throw ended(pid);
}

function openPidfd(pid: number): number {
  try {
    return pidfdOpen(pid);
  } catch (cause) {
    throw ended(pid, cause);
  }
}

interface Pinned {
  readonly transport: Caller["transport"];
  readonly pid: number;
  readonly uid: number;
  readonly startTimeNs: bigint;
  readonly program: string;
  readonly pidfd: number;
  /** Opened while the pidfd held the number: of the same process. */
  readonly folder: ProcessFolder;
  /** Is the connection still the process's? Where the kernel named it when it connected, it is for ever. */
  readonly isHeld?: () => boolean;
}

function callerOf(parts: Pinned, reports: ProcessReports): Caller {
  const { transport, pid, uid, startTimeNs, program, pidfd, folder, isHeld = () => true } = parts;
  // A descriptor that was given back may be another's by now.
  let isOpen = true;
  const isAlive = () => isOpen && pidfdIsAlive(pidfd);
  return {
    transport,
    pid,
    uid,
    startTimeNs,
    isAlive,
    evidence(wanted = ALL_LABELS) {
      if (!isOpen) throw ended(pid);
      const { evidence, program: runs } = evidenceOf(parts, reports, wanted);
      const isSameProgram = runs === program && isHeld();
      // Whatever was read before was of this process.
      if (!isAlive()) throw ended(pid);
      if (isSameProgram) return evidence;
      const fact = "it has become another program since it connected";
      throw new RiprapError("another_program", `Cannot attest process ${pid}: ${fact}`);
    },
    close() {
      if (isOpen) {
        folder.close();
        closeSync(pidfd);
      }
      isOpen = false;
    },
  };
}

function evidenceOf(
  { pid, startTimeNs, folder }: Pinned,
  reports: ProcessReports,
  wanted: WantedLabels,
): { readonly evidence: ProcessEvidence; readonly program: string } {
  const evidence = reports.find(pid);
  // The kernel's facts: a process cannot change them, as it can what /proc shows of its arguments.
  if (evidence !== undefined && isSameStart(evidence.startTimeNs, startTimeNs) && runsStill(evidence, folder))
    return { evidence, program: folder.program(folder.stat()) };
  if (!reports.areComplete) return evidenceOfFolder(folder, wanted);
  throw new RiprapError("not_reported", `Cannot attest process ${pid}: the kernel module has not reported it`);
}

/** Is the program that the kernel reported the one that runs? Its report of an exec may still be on the way. */
function runsStill({ exeStamp }: ProcessEvidence, folder: ProcessFolder): boolean {
  if (exeStamp === undefined) return true;
  // Device and inode numbers differ between views of one overlay; these do not.
  const now = folder.exeFacts();
  return now !== undefined && now.size() === exeStamp.size && now.mtimeNs() === exeStamp.mtimeNs;
}

function ended(pid: number, cause?: unknown): RiprapError {
  return new RiprapError("not_found", `Cannot tell who calls: process ${pid} has ended`, { cause });
}
