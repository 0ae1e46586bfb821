// A ControlPort that answers from values, for the control API and the CLI.

import type { ControlPort, FlowView, StatusView } from "../../../src/daemon/control/port.ts";
import { RiprapError } from "../../../src/error.ts";

export const STATUS: StatusView = {
  version: "0.1.0",
  plane: "kernel",
  trustDomain: "edge.example",
  node: "gate-1",
  startedAt: "2026-01-01T00:00:00.000Z",
  ready: true,
  rules: { desired: 3, applied: 3 },
  trust: { desired: 1, applied: 1 },
  authority: { subject: "CN=gate-1", notAfter: "2027-01-01T00:00:00.000Z", keyStorage: "file" },
  processes: { live: 12, identified: 2 },
  flows: { live: 1, denied: 4, failOpen: 0 },
  module: { version: "0.1.0", draining: false, memoryBytes: 40_960 },
  warnings: [],
};

export const FLOW: FlowView = {
  flow: "17",
  state: "open",
  direction: "outbound",
  pid: 512,
  process: "curl",
  own: "spiffe://edge.example/curl",
  peer: "spiffe://edge.example/web",
  local: "10.77.0.1:40312",
  remote: "10.77.0.2:8000",
  rule: "AccessPolicy/web#0",
  mode: "enforce",
  tls: "TLS 1.3",
  suite: "TLS_AES_128_GCM_SHA256",
  group: "x25519",
  resumed: false,
  wouldDeny: false,
  reason: "rule",
  bytesSent: 300,
  bytesReceived: 4_000_000,
  handshakeMs: 4.1,
  openedAt: "2026-01-01T00:00:01.000Z",
  generation: 3,
};

/** Every call that was made, as `name(arguments)`. */
export interface FakePort extends ControlPort {
  readonly calls: string[];
}

/** `over` replaces single methods. */
export function fakePort(over: Partial<ControlPort> = {}): FakePort {
  const calls: string[] = [];
  const note = (name: string, ...values: unknown[]) =>
    void calls.push(`${name}(${values.map((value) => JSON.stringify(value)).join(", ")})`);
  return {
    calls,
    status: () => STATUS,
    processes(options) {
      note("processes", options);
      return [];
    },
    flows(options) {
      note("flows", options);
      return [FLOW];
    },
    async *followFlows() {
      yield FLOW;
    },
    resources(kind) {
      note("resources", kind);
      return [
        {
          kind: "Service",
          name: "web",
          source: "/etc/riprap/rules.d/web.yaml:1",
          document: { kind: "Service", metadata: { name: "web" } },
        },
      ];
    },
    async apply(source) {
      note("apply", source);
      return { generation: 4, written: ["Service/web"], warnings: [] };
    },
    async remove(kind, name) {
      note("remove", kind, name);
      if (name !== "web")
        throw new RiprapError("not_found", `Cannot delete ${kind} ${name}: there is no such resource`);
      return { generation: 5, written: [], warnings: [] };
    },
    async attest(pid) {
      note("attest", pid);
      if (pid === 404) throw new RiprapError("not_found", "Cannot attest process 404: there is no such process");
      return {
        pid,
        labels: { "process:name": ["curl"] },
        matches: [
          {
            resource: "WorkloadIdentity/curl",
            spiffeId: "spiffe://edge.example/curl",
            because: ["process:name is curl"],
          },
        ],
      };
    },
    async generate(pid, workloadId) {
      note("generate", pid, workloadId);
      return "kind: WorkloadIdentity\n";
    },
    async explain(request) {
      note("explain", request);
      return {
        verdict: "deny",
        mode: "enforce",
        rule: "AccessPolicy/web#0",
        steps: ["wget has no rule that allows it"],
        remedy: "spec:\n  allow: []",
      };
    },
    async waitReady() {},
    async drain(on) {
      note("drain", on);
      return 2;
    },
    metrics: () => "riprap_flows_live 1\n",
    ...over,
  };
}
