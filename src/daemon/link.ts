// Keeps the module's device open: says START, hears the replay, and begins again when the module goes and comes back.

import { ABI, type BodyOf, FRAME_FLAG, type Frame } from "../abi.ts";
import type { KeyStore } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError, RiprapError } from "../error.ts";
import { type DaemonConfig, unknownModeNumber } from "./config.ts";
import { type DeviceFile, DeviceSession, type OpenDevice } from "./device.ts";
import type { OpenLink } from "./issuance.ts";
import { keyModuleOf } from "./key_module.ts";
import type { Log } from "./log.ts";

const REOPEN_FIRST_MS = 500;
const REOPEN_MOST_MS = 10_000;
/** Table bytes of one DATA frame. */
const TABLE_CHUNK = ABI.FRAME_MAX - 16;

export type LinkState =
  /** The daemon has the identity plane alone; `reason` says why, and what to do. */
  | { readonly phase: "closed"; readonly code: string; readonly reason: string }
  | { readonly phase: "starting" }
  | { readonly phase: "open"; readonly hello: BodyOf<"hello"> };

/** What the daemon does with an open device. */
export interface LinkHandler {
  /** The module took START: `replay` is every process it knows, as of the opening. Frames that came after follow by frame(). */
  opened(link: ModuleLink, replay: readonly BodyOf<"process">[]): void;
  frame(frame: Frame, link: ModuleLink): void;
  closed(reason: string): void;
}

/** One opening of the device by this daemon. */
export interface ModuleLink extends OpenLink {
  readonly hello: BodyOf<"hello">;
  readonly tableGeneration: bigint;
  /** Does the module take no new sockets under management? */
  readonly isDraining: boolean;
  pushTable(table: Uint8Array, generation: bigint): Promise<void>;
  /** How many flows still live. */
  drain(on: boolean): Promise<number>;
}

export interface LinkParts {
  readonly config: Pick<DaemonConfig, "device" | "unknownMode" | "attestTimeout" | "handshakeTimeout" | "sniffTimeout">;
  readonly openDevice: OpenDevice;
  readonly clock: Clock;
  readonly log: Log;
  readonly handler: LinkHandler;
  /** The CA's keys go into the module while the device is open. */
  readonly keys: Pick<KeyStore, "attach" | "detach">;
}

export class KernelLink {
  readonly #parts: LinkParts;
  #state: LinkState = { phase: "closed", code: "starting", reason: "the device was not opened yet" };
  #session: DeviceSession | undefined;

  constructor(parts: LinkParts) {
    this.#parts = parts;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Opens the device once; RiprapError with the errno's name as code when that cannot be. */
  open(): DeviceSession {
    try {
      const file = this.#parts.openDevice(this.#parts.config.device);
      this.#state = { phase: "starting" };
      // Before the module says anything: its first words ask for signatures.
      this.#handKeys(file);
      return new DeviceSession(file);
    } catch (thrown) {
      const code = thrown instanceof RiprapError ? thrown.code : "EIO";
      this.#state = { phase: "closed", code, reason: describeError(thrown) };
      throw thrown;
    }
  }

  /** Serves `first`, then every later opening, until the signal. */
  async run(first: DeviceSession | undefined, signal: AbortSignal): Promise<void> {
    const stop = () => this.#session?.stop();
    signal.addEventListener("abort", stop);
    let session = first;
    let wait = REOPEN_FIRST_MS;
    while (!signal.aborted) {
      if (session !== undefined && (await this.#serve(session))) wait = REOPEN_FIRST_MS;
      if (signal.aborted) break;
      await this.#parts.clock.sleep(wait, signal).catch(() => undefined);
      wait = Math.min(wait * 2, REOPEN_MOST_MS);
      session = signal.aborted ? undefined : this.#tryOpen();
    }
    if (session !== undefined && this.#session !== session) session.stop();
    signal.removeEventListener("abort", stop);
  }

  #handKeys({ ioctl }: DeviceFile): void {
    if (ioctl === undefined) return;
    for (const error of this.#parts.keys.attach(keyModuleOf(ioctl))) {
      this.#parts.log.warn("a key of the CA stays in this process", { error: error.message });
    }
    // A key that lay open was read to learn its public half: what is left of that is wiped when it is collected.
    Bun.gc(true);
  }

  #tryOpen(): DeviceSession | undefined {
    try {
      return this.open();
    } catch {
      return undefined; // the state says why
    }
  }

  /** Until the device ends; true when it came as far as the module's START. */
  async #serve(session: DeviceSession): Promise<boolean> {
    const { log, handler } = this.#parts;
    const opening = new Opening(session, this.#parts, (hello) => {
      this.#state = { phase: "open", hello };
    });
    this.#session = session;
    let reason = "the daemon is stopping";
    try {
      await session.run((frame) => opening.take(frame));
    } catch (thrown) {
      reason = describeError(thrown);
      log.error("the device was lost", { error: reason });
    }
    this.#session = undefined;
    this.#parts.keys.detach();
    this.#state = { phase: "closed", code: "device_lost", reason };
    handler.closed(reason);
    return opening.isOpen;
  }
}

/** The frames of one opening, from HELLO on. */
class Opening {
  readonly #session: DeviceSession;
  readonly #parts: LinkParts;
  readonly #onOpen: (hello: BodyOf<"hello">) => void;
  #hello: BodyOf<"hello"> | undefined;
  #link: ModuleLink | undefined;
  #startSequence = 0n;
  readonly #replay: BodyOf<"process">[] = [];
  readonly #early: Frame[] = [];

  constructor(session: DeviceSession, parts: LinkParts, onOpen: (hello: BodyOf<"hello">) => void) {
    this.#session = session;
    this.#parts = parts;
    this.#onOpen = onOpen;
  }

  get isOpen(): boolean {
    return this.#link !== undefined;
  }

  take(frame: Frame): void {
    if (this.#link !== undefined) this.#parts.handler.frame(frame, this.#link);
    else if (this.#hello === undefined) this.#greet(frame);
    else if (frame.type === "ack" && frame.body.sequence === this.#startSequence) this.#begin(this.#hello);
    else if (frame.type === "process" && (frame.flags & FRAME_FLAG.replay) !== 0) this.#replay.push(frame.body);
    else this.#early.push(frame);
  }

  #greet(frame: Frame): void {
    if (frame.type !== "hello") throw new RiprapError("malformed_frame", `The first frame is ${frame.type}, not hello`);
    const { abi, moduleVersion } = frame.body;
    if (abi !== ABI.ABI_VERSION) {
      const fact = `module ${moduleVersion} speaks version ${abi} of the device, this daemon ${ABI.ABI_VERSION}`;
      throw new RiprapError(
        "abi_mismatch",
        `Cannot use the module: ${fact}; load the one that \`riprap kernel build\` makes`,
      );
    }
    this.#hello = frame.body;
    const { unknownMode, attestTimeout, handshakeTimeout, sniffTimeout } = this.#parts.config;
    this.#startSequence = this.#session.sent + 1n;
    this.#session.send("start", {
      abi: ABI.ABI_VERSION,
      unknownMode: unknownModeNumber(unknownMode),
      attestTimeoutMs: attestTimeout,
      handshakeTimeoutMs: handshakeTimeout,
      sniffTimeoutMs: sniffTimeout,
    });
  }

  // Within the frame's own turn: no frame after it may be seen before the replay was taken in.
  #begin(hello: BodyOf<"hello">): void {
    const link = moduleLink(this.#session, hello);
    this.#link = link;
    this.#onOpen(hello);
    const { log, handler } = this.#parts;
    log.info("the kernel module is in charge", { version: hello.moduleVersion, processes: this.#replay.length });
    handler.opened(link, this.#replay.splice(0));
    for (const frame of this.#early.splice(0)) handler.frame(frame, link);
  }
}

function moduleLink(session: DeviceSession, hello: BodyOf<"hello">): ModuleLink {
  let isDraining = hello.draining !== 0;
  return {
    session,
    hello,
    get isDraining() {
      return isDraining;
    },
    async drain(on) {
      const { generation } = await session.ask("drain", { on: on ? 1 : 0 });
      isDraining = on;
      return Number(generation);
    },
    boot: hello.bootNonce,
    tableGeneration: hello.tableGeneration,
    async pushTable(table, generation) {
      const first = session.sent + 1n;
      session.send("tableBegin", { generation, length: table.length });
      for (let offset = 0; offset < table.length; offset += TABLE_CHUNK) {
        session.send("tableData", { generation, offset, data: table.subarray(offset, offset + TABLE_CHUNK) });
      }
      await session.ask("tableCommit", { generation }, first);
    },
  };
}
