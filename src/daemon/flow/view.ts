// One FLOW frame as people read it. Pure.

import { type BodyOf, FLOW_FLAG, FLOW_STATE, FLOW_TLS, MODE, REASON } from "../../abi.ts";
import { formatAddress } from "../../address.ts";
import type { FlowView } from "../control/port.ts";
import { errnoName } from "../libc.ts";

/** IANA names of the suites, groups and alerts that the engine has (RFC 8446 sections B.4, 4.2.7, 6). */
const SUITE: Readonly<Record<number, string>> = {
  4865: "TLS_AES_128_GCM_SHA256",
  4866: "TLS_AES_256_GCM_SHA384",
  4867: "TLS_CHACHA20_POLY1305_SHA256",
};
const GROUP: Readonly<Record<number, string>> = { 23: "secp256r1", 29: "x25519" };
const ALERT: Readonly<Record<number, string>> = {
  0: "close_notify",
  10: "unexpected_message",
  20: "bad_record_mac",
  22: "record_overflow",
  40: "handshake_failure",
  42: "bad_certificate",
  43: "unsupported_certificate",
  44: "certificate_revoked",
  45: "certificate_expired",
  46: "certificate_unknown",
  47: "illegal_parameter",
  48: "unknown_ca",
  49: "access_denied",
  50: "decode_error",
  51: "decrypt_error",
  70: "protocol_version",
  71: "insufficient_security",
  80: "internal_error",
  86: "inappropriate_fallback",
  90: "user_canceled",
  109: "missing_extension",
  110: "unsupported_extension",
  112: "unrecognized_name",
  113: "bad_certificate_status_response",
  115: "unknown_psk_identity",
  116: "certificate_required",
  120: "no_application_protocol",
};
const TLS: Readonly<Record<number, string>> = {
  [FLOW_TLS.plain]: "plain",
  [FLOW_TLS.mutual]: "TLS 1.3",
  [FLOW_TLS.passthrough]: "passthrough",
};
const REASON_WORDS = new Map<number, string>(Object.entries(REASON).map(([name, number]) => [number, snake(name)]));
const STATE_WORDS = wordsOf(FLOW_STATE);
const MODE_WORDS = wordsOf(MODE);

const FINAL: ReadonlySet<FlowView["state"]> = new Set<FlowView["state"]>(["denied", "failed", "closed", "cut"]);

/** What the frame does not say. */
export interface FlowContext {
  readonly process: string;
  /** SPIFFE ID of this end, in the frame or not; empty when it has none. */
  readonly own: string;
  readonly rule: string | undefined;
  /** Hash of the statement by which it was cut, when one was. */
  readonly statement?: string | undefined;
}

export function flowView(event: BodyOf<"flow">, { process, own, rule, statement }: FlowContext): FlowView {
  const has = (flag: number): boolean => (event.flags & flag) !== 0;
  const alert = event.alert === 0 ? undefined : (ALERT[event.alert - 1] ?? String(event.alert - 1));
  return {
    flow: event.flow.toString(),
    state: STATE_WORDS.get(event.state) ?? "failed",
    direction: has(FLOW_FLAG.inbound) ? "inbound" : "outbound",
    pid: event.pid,
    process,
    ...(own === "" ? {} : { own }),
    ...(event.peerId === "" ? {} : { peer: event.peerId }),
    local: formatEnd(event.local, event.localPort),
    remote: formatEnd(event.remote, event.remotePort),
    ...(rule === undefined ? {} : { rule }),
    mode: MODE_WORDS.get(event.mode) ?? "none",
    tls: TLS[event.tls] ?? "plain",
    ...(event.suite === 0 ? {} : { suite: SUITE[event.suite] ?? hex(event.suite) }),
    ...(event.group === 0 ? {} : { group: GROUP[event.group] ?? hex(event.group) }),
    resumed: has(FLOW_FLAG.resumed),
    wouldDeny: has(FLOW_FLAG.wouldDeny),
    reason: REASON_WORDS.get(event.reason) ?? String(event.reason),
    ...(statement === undefined ? {} : { statement }),
    ...(alert === undefined ? {} : { alert: `${has(FLOW_FLAG.alertSent) ? "sent" : "received"} ${alert}` }),
    ...(event.error === 0 ? {} : { error: errnoName(event.error) }),
    bytesSent: Number(event.bytesSent),
    bytesReceived: Number(event.bytesReceived),
    ...(event.handshakeNs === 0n ? {} : { handshakeMs: Number(event.handshakeNs / 1000n) / 1000 }),
    openedAt: new Date(Number(event.openedNs / 1_000_000n)).toISOString(),
    generation: Number(event.tableGeneration),
  };
}

export function isFinal(view: FlowView): boolean {
  return FINAL.has(view.state);
}

function formatEnd(address: Uint8Array, port: number): string {
  const text = formatAddress(address);
  return text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(4, "0")}`;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function wordsOf<T extends Readonly<Record<string, number>>>(table: T): ReadonlyMap<number, keyof T & string> {
  return new Map(Object.entries(table).map(([name, number]) => [number, name as keyof T & string]));
}
