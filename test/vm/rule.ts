// Rules of a program of /srv/bin, as a person writes them: who it is, and with whom it may speak.

export const identity = (name: string): string => `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec: { workloadID: ${name}, selectors: { process:exe: /srv/bin/${name} } }
`;

/** Held to nothing but `sides`: `egress: […]`, `ingress: […]` or both. */
export const policy = (name: string, sides: string): string => `---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec: { workloads: [${name}], mode: enforce, ${sides} }
`;
