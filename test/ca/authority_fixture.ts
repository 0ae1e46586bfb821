// A trust domain of one node on a clock that stands still, and keys for its workloads.
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { initTrustDomain, type NodeAuthority, openAuthority } from "../../src/ca.ts";
import { openStore, type Store, storePath } from "../../src/store.ts";
import { ManualClock } from "../manual_clock.ts";

export interface Node {
  readonly stateDir: string;
  readonly clock: ManualClock;
  readonly store: Store;
  readonly authority: NodeAuthority;
  close(): void;
}

export async function makeNode(
  stateDir: string,
  trustDomain = "example.org",
  clock = new ManualClock(),
): Promise<Node> {
  await initTrustDomain({ stateDir, trustDomain, nodeName: "node-1", clock });
  return openNode(stateDir, clock);
}

export function openNode(stateDir: string, clock: ManualClock): Node {
  const store = openStore(storePath(stateDir));
  const authority = openAuthority({ stateDir, clock, store });
  const close = () => {
    authority.close();
    store.close();
  };
  return { stateDir, clock, store, authority, close };
}

export interface WorkloadKey {
  readonly point: Uint8Array;
  readonly publicPem: string;
  readonly privatePem: string;
}

export function makeWorkloadKey(namedCurve = "P-256"): WorkloadKey {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve });
  const { x = "", y = "" } = publicKey.export({ format: "jwk" });
  return {
    point: Buffer.concat([Buffer.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]),
    publicPem: publicKey.export({ format: "pem", type: "spki" }) as string,
    privatePem: privateKey.export({ format: "pem", type: "pkcs8" }) as string,
  };
}

export function pem(...certificates: readonly Uint8Array[]): string {
  const block = (der: Uint8Array) =>
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString("base64")}\n-----END CERTIFICATE-----\n`;
  return certificates.map((der) => block(der).replace(/(.{64})(?=[A-Za-z0-9+/=])/g, "$1\n")).join("");
}

/** Writes the texts as files and runs openssl there; answers its exit code and both outputs as one text. */
export function openssl(
  directory: string,
  files: Readonly<Record<string, string>>,
  ...words: string[]
): { code: number; text: string } {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  const { exitCode, stdout, stderr } = Bun.spawnSync(["openssl", ...words], { cwd: directory });
  return { code: exitCode, text: `${stdout}${stderr}` };
}
