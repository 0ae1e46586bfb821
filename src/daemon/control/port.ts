// What the control API needs of the running daemon, and the JSON that it shows. Implemented by daemon.ts.

import type { Keep } from "../../fleet.ts";

/** A generation of something: what was asked for, and what is in force. */
export interface Generation {
  readonly desired: number;
  readonly applied: number;
  /** Why they differ, when they do. */
  readonly error?: string;
}

export interface StatusView {
  readonly version: string;
  /** `kernel`: enforced by the module. `identity`: no module, nothing is enforced. */
  readonly plane: "kernel" | "identity";
  /** Why not `kernel`, and what to do about it. */
  readonly planeReason?: string;
  readonly trustDomain: string;
  readonly node: string;
  readonly startedAt: string;
  readonly ready: boolean;
  readonly rules: Generation;
  readonly trust: Generation;
  readonly authority: { readonly subject: string; readonly notAfter: string; readonly keyStorage: string };
  readonly processes: { readonly live: number; readonly identified: number };
  readonly flows: { readonly live: number; readonly denied: number; readonly failOpen: number };
  readonly module?: { readonly version: string; readonly draining: boolean; readonly memoryBytes: number };
  /** Each a sentence about what is degraded, and how to mend it. */
  readonly warnings: readonly string[];
}

export interface ProcessView {
  readonly instance: string;
  readonly pid: number;
  readonly parentPid: number;
  readonly startedAt: string;
  readonly name: string;
  readonly exe: string;
  readonly spiffeId?: string;
  readonly rule?: string;
  /** `pending`: not attested yet; `ready`: has a valid SVID. */
  readonly state: "pending" | "ready" | "withdrawn";
  readonly svid?: {
    readonly serial: string;
    readonly notBefore: string;
    readonly notAfter: string;
    readonly renewals: number;
  };
}

export interface FlowView {
  readonly flow: string;
  readonly state: "denied" | "open" | "failed" | "closed" | "cut";
  readonly direction: "outbound" | "inbound";
  readonly pid: number;
  readonly process: string;
  readonly own?: string;
  readonly peer?: string;
  readonly local: string;
  readonly remote: string;
  /** `kind/name#rule` of the resource that decided, or absent. */
  readonly rule?: string;
  readonly mode: "none" | "observe" | "permissive" | "enforce";
  /** `TLS 1.3`, `plain` or `passthrough`. */
  readonly tls: string;
  readonly suite?: string;
  readonly group?: string;
  readonly resumed: boolean;
  readonly wouldDeny: boolean;
  readonly reason: string;
  /** Hash of the fleet's statement that cut it. */
  readonly statement?: string;
  readonly alert?: string;
  readonly error?: string;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly handshakeMs?: number;
  readonly openedAt: string;
  readonly generation: number;
}

export interface AttestView {
  readonly pid: number;
  readonly labels: Record<string, readonly string[]>;
  /** Every WorkloadIdentity that matches, in order of precedence; the first is the one in force. */
  readonly matches: readonly {
    readonly resource: string;
    readonly spiffeId: string;
    readonly because: readonly string[];
  }[];
}

export interface ExplainRequest {
  /** A PID or a SPIFFE ID. */
  readonly from: string;
  /** `address:port`, `service` name, or a SPIFFE ID. */
  readonly to: string;
  readonly inbound?: boolean;
}

export interface ExplainView {
  readonly verdict: "allow" | "deny" | "plain" | "unmanaged";
  readonly mode: string;
  readonly rule?: string;
  /** The whole way to the answer, a sentence a step. */
  readonly steps: readonly string[];
  /** What would allow it: a YAML fragment or a sentence. Absent when allowed. */
  readonly remedy?: string;
}

export interface ResourceView {
  readonly kind: string;
  readonly name: string;
  /** `file:line` where it was read. */
  readonly source: string;
  readonly document: unknown;
}

export interface EndpointView {
  readonly name: string;
  /** `http`: of this machine alone. */
  readonly profile: "https_spiffe" | "https_web" | "http";
  /** Where it listens. */
  readonly address: string;
  readonly paths: readonly string[];
  /** Of the server, with `https_spiffe`. */
  readonly spiffeId?: string;
  readonly state: "open" | "failed";
  /** Why it is not open, or why its certificate was not renewed. */
  readonly reason?: string;
  /** End of its certificate. */
  readonly notAfter?: string;
  readonly connections: number;
}

export interface ApplyView {
  readonly generation: number;
  readonly written: readonly string[];
  readonly warnings: readonly string[];
}

export interface RevocationView {
  /** As it was understood: `serial:…`, `id:…`, `authority:…`. */
  readonly target: string;
  readonly outcome: "revoked" | "already_revoked" | "lifted";
  /** Sentences about what it was, and whom it was told. */
  readonly notes: readonly string[];
}

export interface RevokedIdView {
  readonly spiffeId: string;
  readonly reason: string;
  readonly revokedAt: string;
}

export interface RevokeOptions {
  readonly reason: string;
  /** An authority although it signs. */
  readonly force: boolean;
  /** Do not tell the fleet, which never forgets. */
  readonly isLocal: boolean;
  /** Of an operator or an issuing node; `all` for anything else. */
  readonly keep: Keep;
}

/** Failures are RiprapError: `revocation_invalid`, `revocation_permanent`, `authority_unknown`, `authority_in_use`, `spiffe_id_invalid`, `not_found`. */
export interface RevocationPort {
  /** A serial number in hexadecimal, a SPIFFE ID, `authority:ID`, or what src/fleet.ts can write: at once here, and said to the fleet where there is one. */
  revoke(target: string, options: RevokeOptions): Promise<RevocationView>;
  /** A SPIFFE ID that was revoked on this node alone may be used again; `revocation_permanent` when the fleet was told. */
  lift(target: string): Promise<RevocationView>;
  /** SPIFFE IDs that are revoked on this node. */
  list(): readonly RevokedIdView[];
}

export interface FlowSelection {
  /** Those alone that still live. */
  readonly live?: boolean;
  /** Those alone that were denied, failed or were cut. */
  readonly broken?: boolean;
  /** The newest of them. */
  readonly limit: number;
}

/** Failures are RiprapError: code `not_found`, `invalid`, `not_ready`, `unavailable`. */
export interface ControlPort {
  status(): StatusView;
  processes(options: { all: boolean }): readonly ProcessView[];
  /** Live and recently ended flows, oldest first. */
  flows(options: FlowSelection): readonly FlowView[];
  /** Flow events as they happen, until the signal. */
  followFlows(signal: AbortSignal): AsyncIterable<FlowView>;
  resources(kind?: string): readonly ResourceView[];
  /** Validates the YAML text, writes it to the rules directory under each resource's own file, and swaps. All or nothing. */
  apply(source: { name: string; text: string }): Promise<ApplyView>;
  remove(kind: string, name: string): Promise<ApplyView>;
  attest(pid: number): Promise<AttestView>;
  /** A WorkloadIdentity in YAML that selects this living process. */
  generate(pid: number, workloadId?: string): Promise<string>;
  explain(request: ExplainRequest): Promise<ExplainView>;
  /** Resolves when ready: resources applied and acknowledged, authority usable. */
  waitReady(signal: AbortSignal): Promise<void>;
  /** Stops managing new sockets; resolves with the number of flows that still live. */
  drain(on: boolean): Promise<number>;
  metrics(): string;
}
