// The host's end of agent.c: programs in a VM as objects here. Knows frames and channels, and nothing of QEMU.
import type { Socket } from "bun";
import { RiprapError } from "../../../src/error.ts";

const HEAD_BYTES = 12;
const FRAME_MAX = 128 * 1024;
const PIECE_BYTES = 32_768; // of standard input in one frame
const INPUT_CREDIT = 256 * 1024; // INPUT_MAX of agent.c
const OUTPUT_MAX = 256 << 20; // of one program's output kept here; more means that a test has lost its way

const FRAME = {
  start: 1,
  input: 2,
  inputEnd: 3,
  signal: 4,
  powerOff: 5,
  started: 65,
  output: 66,
  error: 67,
  exited: 68,
  credit: 69,
  ready: 70,
} as const;

const SIGNAL: Record<string, number> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  KILL: 9,
  USR1: 10,
  USR2: 12,
  TERM: 15,
  CONT: 18,
  STOP: 19,
};

export interface RunResult {
  /** Exit status, or 128 + the signal that ended the program. */
  code: number;
  stdout: string;
  stderr: string;
  /** Standard output as it was, for what is not text. */
  bytes: Uint8Array;
}

export interface StartRequest {
  argv: readonly string[];
  environment: Readonly<Record<string, string>>;
  uid: number;
  gid: number;
}

/** One program in a VM. */
export class VmProcess {
  readonly #agent: Agent;
  readonly #channel: number;
  readonly #stdout: Uint8Array[] = [];
  readonly #stderr: Uint8Array[] = [];
  #kept = 0;
  #credit = INPUT_CREDIT;
  readonly #waiting = new Set<() => void>();
  readonly #started = Promise.withResolvers<number>();
  readonly #exited = Promise.withResolvers<number>();
  #code: number | undefined;
  #failure: Error | undefined;

  constructor(agent: Agent, channel: number) {
    this.#agent = agent;
    this.#channel = channel;
    this.#started.promise.catch(() => {});
    this.#exited.promise.catch(() => {});
  }

  /** Its process ID in the VM. */
  get pid(): Promise<number> {
    return this.#started.promise;
  }

  /** Its exit status, once it has ended and all that it wrote is here. */
  get exited(): Promise<number> {
    return this.#exited.promise;
  }

  get running(): boolean {
    return this.#code === undefined && this.#failure === undefined;
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#stdout);
  }

  async result(): Promise<RunResult> {
    const code = await this.exited;
    return { code, stdout: this.stdout, stderr: this.stderr, bytes: this.bytes };
  }

  async write(bytes: Uint8Array | string): Promise<void> {
    let rest = Buffer.from(bytes as string);
    while (rest.length > 0) {
      await this.#until(() => this.#credit > 0);
      const piece = rest.subarray(0, Math.min(PIECE_BYTES, this.#credit));
      this.#credit -= piece.length;
      this.#agent.send(this.#channel, FRAME.input, piece);
      rest = rest.subarray(piece.length);
    }
  }

  endInput(): void {
    this.#agent.send(this.#channel, FRAME.inputEnd, new Uint8Array(0));
  }

  /** `group`: also what it started, as long as that stayed in its process group. */
  kill(name = "TERM", options: { group?: boolean } = {}): void {
    const number = SIGNAL[name];
    if (number === undefined) throw new RangeError(`No signal ${name} in the laboratory`);
    const payload = Buffer.alloc(4);
    payload.writeInt32LE(options.group ? -number : number);
    this.#agent.send(this.#channel, FRAME.signal, payload);
  }

  /** Resolves when what it wrote (either stream) matches; rejects when it ends without, or after `timeoutMs`. */
  async waitOutput(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    const match = (): RegExpExecArray | null => pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
    const say = (why: string): RiprapError =>
      new RiprapError(
        "vm_output_missing",
        `The program ${why} without writing ${pattern}\n${this.stdout}\n${this.stderr}`,
      );
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, timeoutMs);
    try {
      await this.#until(() => match() !== null || late || !this.running);
    } finally {
      clearTimeout(timer);
    }
    const found = match();
    if (!found) throw say(late ? `went on for ${timeoutMs} ms` : "ended");
    return found;
  }

  /** Called by the agent alone. */
  take(type: number, payload: Buffer): void {
    if (type === FRAME.started) this.#started.resolve(payload.readInt32LE(0));
    if (type === FRAME.credit) this.#credit += payload.readUInt32LE(0);
    if (type === FRAME.output) this.#keep(this.#stdout, payload);
    if (type === FRAME.error) this.#keep(this.#stderr, payload);
    if (type === FRAME.exited) {
      const status = payload.readInt32LE(0);
      this.#code = (status & 0x7f) === 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f);
      this.#started.resolve(0);
      this.#exited.resolve(this.#code);
    }
    this.#wake();
  }

  /** Called by the agent alone, when the VM is gone. */
  fail(error: Error): void {
    this.#failure = error;
    this.#started.reject(error);
    this.#exited.reject(error);
    this.#wake();
  }

  #keep(stream: Uint8Array[], payload: Buffer): void {
    this.#kept += payload.length;
    if (this.#kept <= OUTPUT_MAX) stream.push(Buffer.from(payload));
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }
}

/** The port of one VM. */
export class Agent {
  readonly #socket: Socket<undefined>;
  readonly #processes = new Map<number, VmProcess>();
  readonly #ready = Promise.withResolvers<string>();
  #received: Buffer = Buffer.alloc(0);
  #outgoing: Uint8Array[] = [];
  #nextChannel = 1;
  #gone: Error | undefined;

  private constructor(socket: Socket<undefined>) {
    this.#socket = socket;
    this.#ready.promise.catch(() => {});
  }

  /** `socketPath`: the Unix socket of the VM's port; it is there once QEMU runs. */
  static async connect(socketPath: string): Promise<Agent> {
    const box: { agent?: Agent; early: Uint8Array[] } = { early: [] };
    const socket = await Bun.connect<undefined>({
      unix: socketPath,
      socket: {
        data: (_, bytes) => void (box.agent ? box.agent.#receive(bytes) : box.early.push(Uint8Array.from(bytes))),
        drain: () => (box.agent ? box.agent.#flush() : undefined),
        close: () => box.agent?.fail(new RiprapError("vm_gone", "The VM ended")),
        error: () => box.agent?.fail(new RiprapError("vm_gone", "The VM ended: its port failed")),
      },
    });
    box.agent = new Agent(socket);
    for (const bytes of box.early) box.agent.#receive(bytes);
    return box.agent;
  }

  /** The release of the kernel that runs, once programs can be started. */
  get ready(): Promise<string> {
    return this.#ready.promise;
  }

  start(request: StartRequest): VmProcess {
    if (this.#gone) throw this.#gone;
    const environment = Object.entries(request.environment).map(([name, value]) => `${name}=${value}`);
    const head = Buffer.alloc(16);
    [request.uid, request.gid, request.argv.length, environment.length].forEach((value, index) => {
      head.writeUInt32LE(value, index * 4);
    });
    const strings = [...request.argv, ...environment].map((text) => `${text}\0`).join("");
    const payload = Buffer.concat([head, Buffer.from(strings)]);
    if (payload.length > FRAME_MAX)
      throw new RangeError("The command line and environment do not fit one frame of the agent");
    const channel = this.#nextChannel++;
    const program = new VmProcess(this, channel);
    this.#processes.set(channel, program);
    this.send(channel, FRAME.start, payload);
    return program;
  }

  powerOff(): void {
    this.send(0, FRAME.powerOff, new Uint8Array(0));
  }

  send(channel: number, type: number, payload: Uint8Array): void {
    if (this.#gone) return;
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(channel, 0);
    head.writeUInt32LE(type, 4);
    head.writeUInt32LE(payload.length, 8);
    this.#outgoing.push(Buffer.concat([head, payload]));
    this.#flush();
  }

  /** Everything that waits for the VM is told why it waits in vain. */
  fail(error: Error): void {
    if (this.#gone) return;
    this.#gone = error;
    this.#ready.reject(error);
    for (const program of this.#processes.values()) program.fail(error);
    this.#processes.clear();
    this.#socket.end();
  }

  #flush(): void {
    while (this.#outgoing.length > 0) {
      const bytes = Buffer.concat(this.#outgoing);
      const written = Math.max(this.#socket.write(bytes), 0);
      this.#outgoing = written < bytes.length ? [bytes.subarray(written)] : [];
      if (written < bytes.length) return;
    }
  }

  #receive(bytes: Uint8Array): void {
    let rest: Buffer = this.#received.length > 0 ? Buffer.concat([this.#received, bytes]) : Buffer.from(bytes);
    while (rest.length >= HEAD_BYTES) {
      const length = rest.readUInt32LE(8);
      if (length > FRAME_MAX) {
        this.fail(new RiprapError("vm_out_of_step", "The VM's port is out of step"));
        return;
      }
      if (rest.length < HEAD_BYTES + length) break;
      this.#take(rest.readUInt32LE(0), rest.readUInt32LE(4), rest.subarray(HEAD_BYTES, HEAD_BYTES + length));
      rest = rest.subarray(HEAD_BYTES + length);
    }
    this.#received = Buffer.from(rest);
  }

  #take(channel: number, type: number, payload: Buffer): void {
    if (type === FRAME.ready) this.#ready.resolve(payload.toString());
    const program = this.#processes.get(channel);
    program?.take(type, payload);
    if (type === FRAME.exited) this.#processes.delete(channel);
  }
}
