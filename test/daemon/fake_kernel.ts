// A kernel module in memory that speaks real frames: keeps its records while the device is closed, as the module does.

import { generateKeyPairSync } from "node:crypto";
import {
  ABI,
  ACK,
  type BodyOf,
  CAUSE,
  decodeFrames,
  encodeFrame,
  FRAME_FLAG,
  type FrameName,
  PROCESS_FLAG,
  QUERY_WHAT,
  TABLE_HEAD,
} from "../../src/abi.ts";
import { ownUserNamespace } from "../../src/daemon/attestation/proc.ts";
import type { DeviceFile } from "../../src/daemon/device.ts";
import { RiprapError } from "../../src/error.ts";
import { PID_MAX } from "../../src/pid.ts";

export interface FakeProcess {
  readonly facts: BodyOf<"process">;
  spiffeId: string;
  subject: number;
  keyId: bigint;
  svid: BodyOf<"svid"> | undefined;
  state: "asked" | "unmanaged" | "assigned" | "ready" | "withdrawn";
}

type Sent = { [N in FrameName]: { readonly type: N; readonly body: BodyOf<N> } }[FrameName];

export class FakeKernel {
  bootNonce = 0xb007n;
  tableGeneration = 0n;
  trustGeneration = 0n;
  table: Uint8Array | undefined;
  /** Errno (positive) with which the next frame of a kind is refused. */
  readonly refusals = new Map<FrameName, number>();
  readonly processes = new Map<bigint, FakeProcess>();
  /** Every frame of the daemon, in order, over all openings. */
  readonly received: Sent[] = [];
  /** Answers SVID, ASSIGN and the like by itself; off: the test does. */
  answers = true;
  /** What it tells of when it is asked for the flows that live. */
  liveFlows: readonly BodyOf<"flow">[] = [];
  #file: FakeDevice | undefined;
  #nextInstance = 1n;
  #nextKey = 1n;
  #building = new Uint8Array(0);

  readonly open = (): DeviceFile => {
    if (this.#file !== undefined) throw new RiprapError("EBUSY", "Cannot open /dev/riprap: another daemon holds it");
    this.#file = new FakeDevice(this);
    this.send("hello", {
      abi: ABI.ABI_VERSION,
      features: 1,
      bootNonce: this.bootNonce,
      tableGeneration: this.tableGeneration,
      trustGeneration: this.trustGeneration,
      nextInstance: this.#nextInstance,
      draining: 0,
      unknownMode: 1,
      liveFlows: 0,
      moduleVersion: "0.1.0",
    });
    for (const process of this.processes.values()) this.send("process", replayOf(process), FRAME_FLAG.replay);
    return this.#file;
  };

  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  closed(): void {
    this.#file = undefined;
  }

  /** The module goes and comes back: nothing of it is left. */
  reload(): void {
    this.processes.clear();
    this.bootNonce += 1n;
    this.tableGeneration = 0n;
    this.trustGeneration = 0n;
    this.#file?.fail(new RiprapError("ENODEV", "Cannot read /dev/riprap: ENODEV"));
  }

  /** A program begins. */
  exec(facts: Partial<BodyOf<"process">> = {}): FakeProcess {
    const instance = this.#nextInstance++;
    // A number that no process on this machine has: the daemon leaves itself and its like alone.
    const full = { ...BLANK, instance, pid: PID_MAX + Number(instance), ...facts };
    const process: FakeProcess = { facts: full, spiffeId: "", subject: 0, keyId: 0n, svid: undefined, state: "asked" };
    this.processes.set(full.instance, process);
    this.send("process", full);
    return process;
  }

  exit(process: FakeProcess): void {
    this.processes.delete(process.facts.instance);
    this.send("processExit", { instance: process.facts.instance, exitCode: 0 });
  }

  send<N extends FrameName>(type: N, body: BodyOf<N>, flags = 0): void {
    this.#file?.push((sequence) => encodeFrame(type, body, { flags, sequence }));
  }

  /** Bytes that no good module would send. */
  sendRaw(bytes: Uint8Array): void {
    this.#file?.push(() => bytes);
  }

  ofType<N extends FrameName>(type: N): readonly BodyOf<N>[] {
    return this.received.filter((sent) => sent.type === type).map((sent) => sent.body as BodyOf<N>);
  }

  take(frame: Sent, sequence: bigint): void {
    this.received.push(frame);
    if (frame.type === "wake") this.#file?.wake();
    else if (this.answers) this.#answer(frame, sequence);
  }

  #answer(frame: Sent, sequence: bigint): void {
    const errno = this.refusals.get(frame.type);
    this.refusals.delete(frame.type);
    const ack = (what: keyof typeof ACK, generation: bigint) =>
      this.send("ack", { what: ACK[what], generation, error: -(errno ?? 0), sequence });
    switch (frame.type) {
      case "start":
        ack("start", 0n);
        break;
      case "assign":
        this.#assign(frame.body);
        break;
      case "renew":
        this.#makeKey(frame.body.instance);
        break;
      case "svid":
        if (errno === undefined) this.#install(frame.body);
        ack("svid", frame.body.keyId);
        break;
      case "withdraw": {
        const process = this.processes.get(frame.body.instance);
        if (process !== undefined) Object.assign(process, { state: "withdrawn", svid: undefined });
        break;
      }
      case "tableBegin":
        this.#building = new Uint8Array(frame.body.length);
        break;
      case "tableData":
        this.#building.set(frame.body.data, frame.body.offset);
        break;
      case "tableCommit":
        if (errno === undefined) this.#commit(frame.body.generation);
        ack("table", frame.body.generation);
        break;
      case "trust":
        if (errno === undefined) this.trustGeneration = frame.body.generation;
        ack("trust", frame.body.generation);
        break;
      case "cut":
        ack("cut", 0n);
        break;
      case "drain":
        ack("drain", 3n);
        break;
      case "query":
        if ((frame.body.what & QUERY_WHAT.flows) !== 0)
          for (const flow of this.liveFlows) this.send("flow", flow, FRAME_FLAG.snapshot);
        this.send("queryDone", { ...NO_COUNTERS, query: frame.body.query });
        break;
      case "adopt": {
        this.exec({ pid: frame.body.pid, startTimeNs: frame.body.startTimeNs, cause: CAUSE.adopt });
        ack("adopt", BigInt(frame.body.pid));
        break;
      }
      default:
        break;
    }
  }

  #assign({ instance, spiffeId, subject }: BodyOf<"assign">): void {
    const process = this.processes.get(instance);
    if (process === undefined) return;
    const hasIt = process.spiffeId === spiffeId;
    Object.assign(process, {
      spiffeId,
      subject,
      svid: hasIt ? process.svid : undefined,
      state: spiffeId === "" ? "unmanaged" : "assigned",
    });
    if (spiffeId === "") return;
    // As the module: the same ID again leaves a valid SVID alone.
    if (hasIt && process.svid !== undefined) process.state = "ready";
    else this.#makeKey(instance);
  }

  #makeKey(instance: bigint): void {
    const process = this.processes.get(instance);
    if (process === undefined) return;
    process.keyId = this.#nextKey++;
    this.send("key", { instance, keyId: process.keyId, publicKey: publicPoint() });
  }

  #install(svid: BodyOf<"svid">): void {
    const process = this.processes.get(svid.instance);
    if (process !== undefined && process.keyId === svid.keyId) Object.assign(process, { svid, state: "ready" });
  }

  #commit(generation: bigint): void {
    const head = TABLE_HEAD.decode(new DataView(this.#building.buffer), 0);
    if (head.generation !== generation || generation <= this.tableGeneration) throw new Error("EINVAL");
    this.table = this.#building;
    this.tableGeneration = generation;
  }
}

class FakeDevice implements DeviceFile {
  readonly #kernel: FakeKernel;
  readonly #queue: Uint8Array[] = [];
  #sequence = 0n;
  #received = 0n;
  #reader: { resolve(bytes: Uint8Array): void; reject(thrown: unknown): void } | undefined;
  #failure: unknown;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  push(make: (sequence: bigint) => Uint8Array): void {
    this.#queue.push(make(++this.#sequence));
    this.#deliver();
  }

  wake(): void {
    this.#queue.push(new Uint8Array(0));
    this.#deliver();
  }

  fail(thrown: unknown): void {
    this.#failure = thrown;
    this.#reader?.reject(thrown);
  }

  read(): Promise<Uint8Array> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      this.#deliver();
    });
  }

  write(bytes: Uint8Array): void {
    if (this.#failure !== undefined) throw new RiprapError("ENODEV", "Cannot write /dev/riprap: ENODEV");
    for (const frame of decodeFrames(bytes)) {
      if (frame.sequence !== this.#received + 1n) throw new RiprapError("EINVAL", "Cannot write /dev/riprap: EINVAL");
      this.#received = frame.sequence;
      this.#kernel.take(frame, frame.sequence);
    }
  }

  close(): void {
    this.#kernel.closed();
  }

  // Whole frames, as many as wait; a WAKE is a read of its own.
  #deliver(): void {
    if (this.#reader === undefined || this.#queue.length === 0) return;
    const stop = this.#queue.findIndex((bytes) => bytes.length === 0);
    const bytes = Buffer.concat(this.#queue.splice(0, stop < 0 ? this.#queue.length : Math.max(stop, 1)));
    const reader = this.#reader;
    this.#reader = undefined;
    reader.resolve(new Uint8Array(bytes));
  }
}

function replayOf({ facts, spiffeId, subject, svid, state }: FakeProcess): BodyOf<"process"> {
  if (state !== "ready" && state !== "assigned") return facts;
  const flags = facts.flags | PROCESS_FLAG.hasIdentity;
  return { ...facts, flags, spiffeId, subject, notAfter: svid === undefined ? 0n : BigInt.asUintN(64, svid.notAfter) };
}

/** The public half of a fresh P-256 key, as the module sends it. */
export function publicPoint(): Uint8Array {
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(-65));
}

const BLANK: BodyOf<"process"> = {
  instance: 0n,
  parentInstance: 0n,
  startTimeNs: 1_000_000_000n,
  pid: 0,
  parentPid: 1,
  execGeneration: 1,
  cause: CAUSE.exec,
  flags: PROCESS_FLAG.wantsAnswer,
  uid: 1000,
  euid: 1000,
  gid: 1000,
  egid: 1000,
  capsEffective: 0n,
  seccomp: 0,
  subject: 0,
  exeDev: 0n,
  exeIno: 1n,
  exeSize: 1n,
  exeMtimeNs: 0n,
  exeCtimeNs: 0n,
  nsMnt: 1,
  nsPid: 1,
  nsNet: 1,
  nsUser: ownUserNamespace(),
  nsUts: 1,
  nsIpc: 1,
  notAfter: 0n,
  comm: "curl",
  exe: "/usr/bin/curl",
  script: "",
  argv: "curl\0http://web/\0",
  cgroup: "/system.slice/web.service",
  spiffeId: "",
};

const NO_COUNTERS: BodyOf<"queryDone"> = {
  query: 0n,
  frames: 0n,
  processesLive: 2n,
  processesSeen: 2n,
  flowsLive: 1n,
  flowsSeen: 9n,
  denied: 4n,
  allowedPlain: 0n,
  handshakesFull: 1n,
  handshakesResumed: 0n,
  handshakesFailed: 0n,
  verifyHits: 0n,
  verifyMisses: 0n,
  failOpen: 5n,
  socketsManaged: 1n,
  lostFlowEvents: 0n,
  memoryBytes: 4096n,
};
