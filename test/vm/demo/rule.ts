// The rules of the demo, as a person would write them: the same files on both nodes. `beta` is the address of the node that serves.

export const TRUST_DOMAIN = "edge.example";

/** The SPIFFE ID of a path below the demo's trust domain. */
export function idOf(path: string): string {
  return `spiffe://${TRUST_DOMAIN}/${path}`;
}

export const PORT = { web: 8000, nginx: 8080, redis: 6379, postgres: 5432, openssl: 4433 } as const;

export const AGENT_DIR = "/srv/agent";

/** File name to YAML. */
export function demoRules(beta: string): Record<string, string> {
  return {
    // curl and nginx live on SVIDs of 20 s, so that a transfer of a minute outlives three of them.
    "10-identity-client": [
      identity("curl", "client/curl", "process:name: curl", "20s"),
      identity("wget", "client/wget", "process:name: wget"),
      identity("psql", "client/psql", "process:name: psql"),
      identity("redis-benchmark", "client/redis-benchmark", "process:name: redis-benchmark"),
    ].join("---\n"),
    "11-identity-server": [
      identity("web", "server/web", "process:cmdline: python3 -m http.server"),
      identity("nginx", "server/nginx", "process:name: nginx", "20s"),
      identity("redis", "server/redis", "process:name: redis-server"),
      identity("postgres", "server/postgres", "process:name: postgres"),
    ].join("---\n"),
    "12-identity-agent": [
      identity("planner", "agent/planner", `process:script: ${AGENT_DIR}/planner.py`),
      identity(
        "tool",
        "agent/tool",
        `process:script: ${AGENT_DIR}/tool.py\n      process:ancestor:script: ${AGENT_DIR}/planner.py`,
      ),
      identity("caller", "agent/caller", `process:script: ${AGENT_DIR}/caller.py`),
      identity("reporter", "agent/reporter", `process:script: ${AGENT_DIR}/reporter.py`),
    ].join("---\n"),
    "20-service": Object.entries(PORT)
      .map(([name, port]) => service(name, beta, port))
      .join("---\n"),
    "30-policy": [
      policy("curl-may", "client/curl", { egress: ["web", "nginx", "openssl"] }),
      policy("wget-may", "client/wget", { egress: ["redis"] }),
      policy("psql-may", "client/psql", { egress: ["postgres"] }),
      policy("redis-benchmark-may", "client/redis-benchmark", { egress: ["redis"] }),
      policy("agents-may", "agent/*", { egress: ["web"] }),
      policy("web-by", "server/web", { ingress: ["client/curl", "agent/*", "peer/openssl"] }),
      policy("nginx-by", "server/nginx", { ingress: ["client/curl"] }),
      policy("redis-by", "server/redis", { ingress: ["client/redis-benchmark"] }),
      policy("postgres-by", "server/postgres", { ingress: ["client/psql"] }),
    ].join("---\n"),
  };
}

function identity(name: string, path: string, selector: string, ttl?: string): string {
  const svid = ttl ? `  svid: { x509: { ttl: ${ttl} } }\n` : "";
  return `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec:
  workloadID: ${path}
  selectors:
    - ${selector}
${svid}`;
}

function service(name: string, address: string, port: number): string {
  return `apiVersion: riprap.io/v1
kind: Service
metadata: { name: ${name} }
spec:
  addresses:
    - { address: ${address}, ports: [${port}] }
`;
}

function policy(name: string, workload: string, may: { egress?: string[]; ingress?: string[] }): string {
  const list = (key: string, items: string[] | undefined, field: string): string =>
    items ? `  ${key}:\n${items.map((item) => `    - ${field}\n`.replace("ITEM", item)).join("")}` : "";
  return `apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec:
  workloads: ["${workload}"]
  mode: enforce
${list("egress", may.egress, "to: [{ service: ITEM }]")}${list("ingress", may.ingress, 'from: [{ peer: "ITEM" }]')}`;
}
