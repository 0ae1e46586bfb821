// An Ethernet segment between VMs: a hub on a Unix socket that speaks QEMU's stream framing (4 bytes of length, then the frame).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";

const FRAME_MAX = 69_632; // QEMU's own bound of a frame
const QUEUE_MAX_BYTES = 4 << 20; // past this a port loses frames, as on a real switch; TCP sends them again

interface Port {
  received: Buffer;
  queue: Uint8Array[];
  queuedBytes: number;
}

export interface Segment {
  /** Where a VM's network card connects. */
  readonly socketPath: string;
  /** The number that the next VM takes: its address is 10.77.0.N and fd77::N. */
  nextNumber(): number;
  close(): Promise<void>;
}

export async function openSegment(): Promise<Segment> {
  const directory = await mkdtemp(join(tmpdir(), "riprap-segment-"));
  const socketPath = join(directory, "hub");
  const ports = new Set<Socket<Port>>();
  const listener = Bun.listen<Port>({
    unix: socketPath,
    socket: {
      open(socket) {
        socket.data = { received: Buffer.alloc(0), queue: [], queuedBytes: 0 };
        ports.add(socket);
      },
      data(socket, bytes) {
        for (const frame of takeFrames(socket.data, bytes))
          for (const other of ports) if (other !== socket) sendFrame(other, frame);
      },
      drain: flush,
      close: (socket) => void ports.delete(socket),
      error: (socket) => void ports.delete(socket),
    },
  });
  let number = 0;
  return {
    socketPath,
    nextNumber: () => ++number,
    async close() {
      listener.stop(true);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Whole frames, each still with its length in front. */
function takeFrames(port: Port, bytes: Uint8Array): Uint8Array[] {
  let rest: Buffer = port.received.length > 0 ? Buffer.concat([port.received, bytes]) : Buffer.from(bytes);
  const frames: Uint8Array[] = [];
  while (rest.length >= 4) {
    const length = rest.readUInt32BE(0);
    if (length > FRAME_MAX)
      throw new RangeError(`A frame of ${length} bytes on the segment: the stream is out of step`);
    if (rest.length < 4 + length) break;
    frames.push(rest.subarray(0, 4 + length));
    rest = rest.subarray(4 + length);
  }
  port.received = Buffer.from(rest);
  return frames;
}

function sendFrame(socket: Socket<Port>, frame: Uint8Array): void {
  const port = socket.data;
  if (port.queuedBytes + frame.length > QUEUE_MAX_BYTES) return;
  port.queue.push(frame);
  port.queuedBytes += frame.length;
  if (port.queue.length === 1) flush(socket);
}

function flush(socket: Socket<Port>): void {
  const port = socket.data;
  while (port.queue.length > 0) {
    const bytes = port.queue.length === 1 ? (port.queue[0] ?? new Uint8Array(0)) : Buffer.concat(port.queue);
    const written = socket.write(bytes);
    port.queuedBytes -= Math.max(written, 0);
    port.queue = written < bytes.length ? [bytes.subarray(Math.max(written, 0))] : [];
    if (written < bytes.length) return;
  }
}
