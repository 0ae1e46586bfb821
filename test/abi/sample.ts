// One well-formed frame of every type, and a seeded generator of noise. For tests only.

import { type BodyOf, encodeFrame, FRAME, type FrameName } from "../../src/abi.ts";

/** A small deterministic generator (xorshift32): the same seed gives the same noise. */
export function seeded(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const TAIL: Readonly<Record<string, unknown>> = {
  comm: "curl",
  exe: "/usr/bin/curl",
  script: "",
  argv: "curl\0-s\0http://web/",
  cgroup: "/system.slice/web.service",
  spiffeId: "spiffe://edge.test/curl",
  ownId: "spiffe://edge.test/curl",
  peerId: "spiffe://edge.test/web",
  id: "spiffe://edge.test/web",
  data: new Uint8Array([1, 2, 3]),
  chain: [new Uint8Array([0x30, 1, 0]), new Uint8Array([0x30, 2, 0, 0])],
};

/** A body whose every number differs from its neighbours, so that a swapped field shows. */
export function sampleBody<N extends FrameName>(type: N): BodyOf<N> {
  const body: Record<string, unknown> = {};
  let counter = 1;
  for (const { name, kind, size } of FRAME[type].struct.fields) {
    if (kind === "u64" || kind === "s64") body[name] = BigInt(counter++) << 33n;
    else if (kind.startsWith("bytes")) body[name] = new Uint8Array(size).fill(counter++);
    else if (kind.startsWith("text")) body[name] = "0.1.0";
    else if (!kind.startsWith("pad") && !kind.startsWith("len")) body[name] = counter++;
  }
  const wanted = TAIL_OF[type] ?? [];
  for (const part of wanted) body[part] = TAIL[part];
  return body as BodyOf<N>;
}

const TAIL_OF: Partial<Record<FrameName, readonly string[]>> = {
  process: ["comm", "exe", "script", "argv", "cgroup", "spiffeId"],
  verify: ["chain"],
  flow: ["ownId", "peerId"],
  assign: ["spiffeId"],
  svid: ["chain"],
  verified: ["spiffeId"],
  tableData: ["data"],
  cut: ["id"],
};

export const FRAME_NAMES = Object.keys(FRAME) as FrameName[];

export function sampleFrame(type: FrameName, sequence = 1n): Uint8Array {
  return encodeFrame(type, sampleBody(type), { flags: 0, sequence });
}
