// A node that is drained while managed programs speak: who keeps connections through it, and who watches the wire meanwhile.
import { RiprapError } from "../../../src/error.ts";
import type { RiprapNode } from "../node.ts";

/** What `load` says on its connections. */
const WORD = "a few bytes here";

/** Waits for SIGTERM; then how many packets of the port it saw, and how many had the word in the clear. */
const TAP = `import signal, socket, struct, sys
def end(*_):
    print("packets", seen, "plain", plain)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
seen = plain = 0
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
tap.bind(("lo", 0))
print("watching", flush=True)
while True:
    packet = tap.recv(65536)
    if int(sys.argv[1]) in struct.unpack(">HH", packet[34:38]):
        seen += 1
        plain += sys.argv[2].encode() in packet
`;

export interface Talker {
  /** One byte of `load talk`: its line. */
  ask(command: "w" | "e" | "n" | "s"): Promise<string>;
  /** Goes, and everything that it has open. */
  end(): Promise<void>;
}

/** A program with so many connections, which it keeps until it is told otherwise. */
export async function startTalker(
  node: RiprapNode,
  program: string,
  options: { port: number; connections: number; timeoutMs: number },
): Promise<Talker> {
  const { port, connections, timeoutMs } = options;
  const child = node.vm.spawn([program, "talk", `${port}`, `${connections}`]);
  let lines = 0;
  const next = async () => (await child.waitOutput(new RegExp(`^(?:.*\\n){${lines++}}(.*)\\n`), timeoutMs))[1] ?? "";
  const opened = await next();
  if (opened !== "open ok") throw new RiprapError("talker_failed", `${program} has no connections: ${opened}`);
  return {
    async ask(command) {
      await child.write(command);
      return next();
    },
    async end() {
      child.endInput();
      await child.exited;
    },
  };
}

/** Everything on loopback to or from the port, until `end`. */
export async function watchWire(node: RiprapNode, port: number): Promise<{ end(): Promise<string> }> {
  const tap = node.vm.spawn(["python3", "-c", TAP, `${port}`, WORD]);
  await tap.waitOutput(/watching/);
  return {
    async end() {
      tap.kill("TERM");
      await tap.exited;
      return tap.stdout.trim().split("\n").at(-1) ?? "";
    },
  };
}
