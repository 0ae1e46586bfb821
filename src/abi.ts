// The binary interface of /dev/riprap as kernel/abi.h has it: constants, structs, frames. Never opens the device.

import { FORGET, IMPORT, SIGN } from "./abi/authority.ts";
import { type FrameBody, type FrameCodec, frame, malformed, type Tail } from "./abi/frame.ts";
import { type Fields, type StructValue, struct, viewOf } from "./abi/struct.ts";

/** Arguments of ioctl() on the open device: keys of the node's CA. */
export const AUTHORITY = { import: IMPORT, sign: SIGN, forget: FORGET } as const;

/** Plain #defines, without their RIPRAP_ prefix. */
export const ABI = {
  ABI_MAGIC: 0x50525052,
  ABI_VERSION: 1,
  FRAME_MAX: 65536,
  SPIFFE_ID_MAX: 2048,
  PATH_MAX: 4096,
  ARGV_MAX: 4096,
  COMM_MAX: 16,
  CHAIN_MAX: 16384,
  CHAIN_CERTS_MAX: 8,
  TABLE_MAX: 32 << 20,
  REASON_MAX: 128,
  TABLE_MAGIC: 0x4c425452,
  TABLE_SUBJECTS_MAX: 65536,
  TABLE_RULES_MAX: 262144,
  TABLE_PEERS_MAX: 262144,
  TABLE_FILTERS_MAX: 4096,
  TABLE_SHAPES_MAX: 64,
  AUTHORITY_KEYS_MAX: 8,
  AUTHORITY_IMPORT: 0xc0687201,
  AUTHORITY_SIGN: 0xc0707202,
  AUTHORITY_FORGET: 0x40087203,
} as const;

// Each object is one enum of kernel/abi.h; its keys are the C names in camel case without the enum's prefix.
export const FRAME_FLAG = { replay: 1, snapshot: 2 } as const;
export const MODE = { none: 0, observe: 1, permissive: 2, enforce: 3 } as const;
export const FEATURE = { ktls: 1, ipv6: 4 } as const;
export const CAUSE = { exec: 1, fork: 2, adopt: 3, cred: 4 } as const;
export const PROCESS_FLAG = { wantsAnswer: 1, argvCut: 2, noNewPrivs: 4, hasIdentity: 8, ptraced: 16 } as const;
export const FLOW_STATE = { denied: 1, open: 2, failed: 3, closed: 4, cut: 5 } as const;
export const FLOW_TLS = { plain: 0, mutual: 1, passthrough: 2 } as const;
export const FLOW_FLAG = { inbound: 1, resumed: 2, wouldDeny: 4, ipv4: 8, helloRetry: 16, alertSent: 32 } as const;
export const REASON = {
  none: 0,
  rule: 1,
  noRule: 2,
  noPolicy: 3,
  noIdentity: 4,
  unknownProcess: 5,
  peerId: 6,
  peerChain: 7,
  peerPlaintext: 8,
  tlsAlert: 9,
  tcp: 10,
  timeout: 11,
  withdrawn: 12,
  revoked: 13,
  draining: 14,
  keyUpdate: 15,
  truncated: 16,
  noKtls: 17,
  foreignSocket: 18,
  noMemory: 19,
  notTls: 20,
  record: 21,
  abandoned: 22,
  crowded: 23,
} as const;
export const ACK = { table: 1, trust: 2, start: 3, adopt: 4, svid: 5, cut: 6, drain: 7, assign: 8 } as const;
export const CUT_BY = { flow: 1, instance: 2, peerId: 3, recheck: 4, all: 5 } as const;
export const QUERY_WHAT = { stats: 1, flows: 2, processes: 4 } as const;
export const ACTION = { deny: 0, mutual: 1, passthrough: 2, plain: 3 } as const;
export const PEER_MATCH = { exact: 1, prefix: 2 } as const;
export const FILTER_HAS = { uid: 1, name: 2, exe: 4 } as const;

/** struct riprap_frame: the head of every frame. */
export const FRAME_HEAD = struct("riprap_frame", {
  magic: "u32",
  version: "u16",
  type: "u16",
  length: "u32",
  flags: "u32",
  sequence: "u64",
});

const ID_MAX = ABI.SPIFFE_ID_MAX;

/** Every frame type by its name; the module sends the first nine, the daemon the rest. */
export const FRAME = {
  hello: frame(0x01, {
    name: "riprap_hello",
    fields: {
      abi: "u32",
      features: "u32",
      bootNonce: "u64",
      tableGeneration: "u64",
      trustGeneration: "u64",
      nextInstance: "u64",
      draining: "u8",
      unknownMode: "u8",
      pad0: "pad2",
      liveFlows: "u32",
      moduleVersion: "text32",
    },
  }),
  process: frame(0x02, {
    name: "riprap_process_facts",
    fields: {
      instance: "u64",
      parentInstance: "u64",
      startTimeNs: "u64",
      pid: "u32",
      parentPid: "u32",
      execGeneration: "u32",
      cause: "u16",
      flags: "u16",
      uid: "u32",
      euid: "u32",
      gid: "u32",
      egid: "u32",
      capsEffective: "u64",
      seccomp: "u32",
      subject: "u32",
      exeDev: "u64",
      exeIno: "u64",
      exeSize: "u64",
      exeMtimeNs: "s64",
      exeCtimeNs: "s64",
      nsMnt: "u32",
      nsPid: "u32",
      nsNet: "u32",
      nsUser: "u32",
      nsUts: "u32",
      nsIpc: "u32",
      notAfter: "u64",
      commLen: "len16",
      exeLen: "len16",
      scriptLen: "len16",
      argvLen: "len16",
      cgroupLen: "len16",
      spiffeIdLen: "len16",
      pad0: "pad4",
    },
    tail: {
      comm: ["commLen", "text", ABI.COMM_MAX],
      exe: ["exeLen", "text", ABI.PATH_MAX],
      script: ["scriptLen", "text", ABI.PATH_MAX],
      argv: ["argvLen", "text", ABI.ARGV_MAX],
      cgroup: ["cgroupLen", "text", ABI.PATH_MAX],
      spiffeId: ["spiffeIdLen", "id", ID_MAX],
    },
  }),
  processExit: frame(0x03, { name: "riprap_process_exit", fields: { instance: "u64", exitCode: "u32", pad0: "pad4" } }),
  key: frame(0x04, {
    name: "riprap_key",
    fields: { instance: "u64", keyId: "u64", publicKey: "bytes65", pad0: "pad7" },
  }),
  verify: frame(0x05, {
    name: "riprap_verify",
    fields: {
      ask: "u64",
      flow: "u64",
      instance: "u64",
      trustGeneration: "u64",
      peerIsServer: "u8",
      certs: "len8",
      pad0: "pad2",
      chainLen: "len32",
    },
    tail: { chain: ["chainLen", "chain", ABI.CHAIN_MAX] },
    certificates: ABI.CHAIN_CERTS_MAX,
  }),
  flow: frame(0x06, {
    name: "riprap_flow_event",
    fields: {
      flow: "u64",
      instance: "u64",
      tableGeneration: "u64",
      openedNs: "u64",
      handshakeNs: "u64",
      bytesSent: "u64",
      bytesReceived: "u64",
      pid: "u32",
      subject: "u32",
      rule: "u32",
      error: "s32",
      local: "bytes16",
      remote: "bytes16",
      localPort: "u16",
      remotePort: "u16",
      state: "u8",
      tls: "u8",
      mode: "u8",
      reason: "u8",
      flags: "u16",
      suite: "u16",
      group: "u16",
      alert: "u16",
      ownIdLen: "len16",
      peerIdLen: "len16",
      pad0: "pad4",
    },
    tail: { ownId: ["ownIdLen", "id", ID_MAX], peerId: ["peerIdLen", "id", ID_MAX] },
  }),
  ack: frame(0x07, { name: "riprap_ack", fields: { generation: "u64", what: "u32", error: "s32", sequence: "u64" } }),
  lost: frame(0x08, { name: "riprap_lost", fields: { flowEvents: "u64", pad0: "pad8" } }),
  queryDone: frame(0x09, {
    name: "riprap_query_done",
    fields: {
      query: "u64",
      frames: "u64",
      processesLive: "u64",
      processesSeen: "u64",
      flowsLive: "u64",
      flowsSeen: "u64",
      denied: "u64",
      allowedPlain: "u64",
      handshakesFull: "u64",
      handshakesResumed: "u64",
      handshakesFailed: "u64",
      verifyHits: "u64",
      verifyMisses: "u64",
      failOpen: "u64",
      socketsManaged: "u64",
      lostFlowEvents: "u64",
      memoryBytes: "u64",
    },
  }),
  start: frame(0x81, {
    name: "riprap_start",
    fields: {
      abi: "u32",
      unknownMode: "u8",
      pad0: "pad3",
      attestTimeoutMs: "u32",
      handshakeTimeoutMs: "u32",
      sniffTimeoutMs: "u32",
      pad1: "pad4",
    },
  }),
  assign: frame(0x82, {
    name: "riprap_assign",
    fields: { instance: "u64", subject: "u32", spiffeIdLen: "len16", pad0: "pad2" },
    tail: { spiffeId: ["spiffeIdLen", "id", ID_MAX] },
  }),
  svid: frame(0x83, {
    name: "riprap_svid",
    fields: {
      instance: "u64",
      keyId: "u64",
      notBefore: "s64",
      notAfter: "s64",
      certs: "len8",
      pad0: "pad3",
      chainLen: "len32",
    },
    tail: { chain: ["chainLen", "chain", ABI.CHAIN_MAX] },
    certificates: ABI.CHAIN_CERTS_MAX,
  }),
  verified: frame(0x84, {
    name: "riprap_verified",
    fields: {
      ask: "u64",
      trustGeneration: "u64",
      notAfter: "s64",
      alert: "u8",
      pad0: "pad1",
      spiffeIdLen: "len16",
      pad1: "pad4",
      publicKey: "bytes65",
      pad2: "pad7",
    },
    tail: { spiffeId: ["spiffeIdLen", "id", ID_MAX] },
  }),
  tableBegin: frame(0x85, { name: "riprap_table_begin", fields: { generation: "u64", length: "u32", pad0: "pad4" } }),
  tableData: frame(0x86, {
    name: "riprap_table_data",
    fields: { generation: "u64", offset: "u32", length: "len32" },
    tail: { data: ["length", "bytes", ABI.FRAME_MAX] },
  }),
  tableCommit: frame(0x87, { name: "riprap_table_commit", fields: { generation: "u64" } }),
  trust: frame(0x88, { name: "riprap_trust", fields: { generation: "u64" } }),
  cut: frame(0x89, {
    name: "riprap_cut",
    fields: { value: "u64", by: "u8", reason: "u8", idLen: "len16", pad0: "pad4" },
    tail: { id: ["idLen", "id", ID_MAX] },
  }),
  adopt: frame(0x8a, { name: "riprap_adopt", fields: { pid: "u32", pad0: "pad4", startTimeNs: "u64" } }),
  renew: frame(0x8b, { name: "riprap_renew", fields: { instance: "u64" } }),
  withdraw: frame(0x8c, { name: "riprap_withdraw", fields: { instance: "u64", reason: "u8", pad0: "pad7" } }),
  drain: frame(0x8d, { name: "riprap_drain", fields: { on: "u8", pad0: "pad7" } }),
  query: frame(0x8e, { name: "riprap_query", fields: { query: "u64", what: "u32", pad0: "pad4" } }),
  wake: frame(0x8f, { name: "", fields: {} }),
} as const;

// ---- the compiled rule table: header, subjects, rules, peers, filters, string bytes ----

export const TABLE_HEAD = struct("riprap_table", {
  magic: "u32",
  version: "u32",
  generation: "u64",
  subjects: "u32",
  rules: "u32",
  peers: "u32",
  filters: "u32",
  stringBytes: "u32",
  pad0: "pad4",
});
export const TABLE_SUBJECT = struct("riprap_table_subject", {
  subject: "u32",
  egressMode: "u8",
  ingressMode: "u8",
  pad0: "pad2",
});
export const TABLE_RULE = struct("riprap_table_rule", {
  number: "u32",
  subject: "u32",
  address: "bytes16",
  port: "u16",
  prefixLen: "u8",
  portBits: "u8",
  inbound: "u8",
  action: "u8",
  pad0: "pad2",
  peerSet: "u32",
  pad1: "pad4",
});
export const TABLE_PEER = struct("riprap_table_peer", {
  set: "u32",
  string: "u32",
  length: "u16",
  match: "u8",
  pad0: "pad1",
  pad1: "pad4",
});
export const TABLE_FILTER = struct("riprap_table_filter", {
  has: "u32",
  uid: "u32",
  name: "u32",
  nameLen: "u16",
  exeLen: "u16",
  exe: "u32",
  pad0: "pad4",
});
export type TableHead = ValueOfStruct<typeof TABLE_HEAD>;
export type TableSubject = ValueOfStruct<typeof TABLE_SUBJECT>;
export type TableRule = ValueOfStruct<typeof TABLE_RULE>;
export type TablePeer = ValueOfStruct<typeof TABLE_PEER>;
export type TableFilter = ValueOfStruct<typeof TABLE_FILTER>;

// ---- whole frames ----

type ValueOfStruct<S> = S extends { decode(view: DataView, offset: number): infer V } ? V : never;
type Body<C> = C extends FrameCodec<infer F extends Fields, infer T extends Tail> ? FrameBody<F, T> : never;
export type FrameName = keyof typeof FRAME;
export type BodyOf<N extends FrameName> = Body<(typeof FRAME)[N]>;
export type FrameHead = StructValue<{ flags: "u32"; sequence: "u64" }>;
/** A decoded frame: `type` says what `body` is. */
export type Frame = { [N in FrameName]: FrameHead & { readonly type: N; readonly body: BodyOf<N> } }[FrameName];

const NAME_OF = new Map<number, FrameName>(
  Object.entries(FRAME).map(([name, codec]) => [codec.type, name as FrameName]),
);

/** One whole frame. RangeError or TypeError for a body that does not fit; nothing is cut. */
export function encodeFrame<N extends FrameName>(type: N, body: BodyOf<N>, head: FrameHead): Uint8Array {
  const codec = FRAME[type] as unknown as { readonly type: number; encodePayload(body: BodyOf<N>): Uint8Array };
  const payload = codec.encodePayload(body);
  if (payload.length > ABI.FRAME_MAX)
    throw new RangeError(`frame ${type}: ${payload.length} of ${ABI.FRAME_MAX} bytes`);
  const bytes = new Uint8Array(FRAME_HEAD.size + payload.length);
  const magic = { magic: ABI.ABI_MAGIC, version: ABI.ABI_VERSION };
  FRAME_HEAD.put(viewOf(bytes), 0, { ...magic, type: codec.type, length: payload.length, ...head });
  bytes.set(payload, FRAME_HEAD.size);
  return bytes;
}

/** Every frame of one read(). RiprapError `malformed_frame` for anything but whole, well-formed frames. */
export function decodeFrames(bytes: Uint8Array): readonly Frame[] {
  const view = viewOf(bytes);
  const frames: Frame[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    const { magic, version, type, length, flags, sequence } = FRAME_HEAD.decode(view, offset);
    if (magic !== ABI.ABI_MAGIC) throw malformed("head", `magic is 0x${magic.toString(16)}`);
    if (version !== ABI.ABI_VERSION)
      throw malformed("head", `version is ${version}, this daemon speaks ${ABI.ABI_VERSION}`);
    if (length > ABI.FRAME_MAX) throw malformed("head", `${length} payload bytes, at most ${ABI.FRAME_MAX}`);
    const name = NAME_OF.get(type);
    if (name === undefined) throw malformed("head", `type 0x${type.toString(16)} is unknown`);
    const start = offset + FRAME_HEAD.size;
    if (start + length > bytes.length) throw malformed(name, `${bytes.length - start} of ${length} payload bytes`);
    const body = FRAME[name].decodePayload(bytes.subarray(start, start + length));
    frames.push({ type: name, flags, sequence, body } as Frame);
    offset = start + length;
  }
  return frames;
}
