// The commands of the node's CA: init, and SVIDs for peers outside riprap. They work on the state directory, not through the daemon.

import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { initTrustDomain, type NodeAuthority, openAuthority } from "../../ca.ts";
import { systemClock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { openStore, storePath } from "../../store.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option } from "../command.ts";
import { show } from "../output.ts";
import { formatPem } from "../pem.ts";
import { stateDirOf } from "../setting.ts";

export const STATE_OPTION: Option = {
  name: "state-dir",
  value: "FOLDER",
  sentence: "Work on this state directory instead of the configured one.",
};

const HOUR_MS = 3_600_000;

const init: Command = {
  words: ["init"],
  group: "Set up",
  sentence: "Make a trust domain, with this machine as its first node.",
  notes: [
    "Makes the root and this node's intermediate under the state directory. Further nodes join with riprap enrol.",
  ],
  arguments: [{ name: "DOMAIN", sentence: "The trust domain's name, as in edge.example." }],
  options: [
    { name: "node", value: "NAME", sentence: "This node's name; the host's name when not given." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap init edge.example --node gate-1",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    const nodeName = invocation.option("node") ?? nodeNameOfHost();
    await initTrustDomain({ stateDir, trustDomain: invocation.argument("DOMAIN"), nodeName, clock: systemClock });
    const answer = withAuthority(stateDir, (authority) => describeAuthority(authority, stateDir));
    show(answer, { invocation, terminal }, () => [
      `trust domain ${answer.trustDomain}, first node ${answer.nodeName}, state in ${stateDir}`,
      `root fingerprint (SHA-256): ${answer.rootFingerprints.join(", ")}`,
      "next: riprap run, then riprap apply -f RULES",
    ]);
    return 0;
  },
};

const x509: Command = {
  words: ["svid", "x509"],
  group: "Set up",
  sentence: "Issue an X509-SVID to a peer outside riprap, for a key of its own.",
  notes: [
    "For a peer that is no riprap node, as an OpenSSL server: make its key there, bring the public key here, take the chain back. The private key is never seen. Journaled as every SVID is.",
  ],
  arguments: [],
  options: [
    { name: "spiffe-id", value: "ID", required: true, sentence: "The SPIFFE ID, of this node's trust domain." },
    {
      name: "public-key",
      value: "FILE",
      required: true,
      sentence: "A P-256 public key in PEM (openssl pkey -pubout).",
    },
    { name: "ttl", value: "DURATION", sentence: "How long it is valid, 1h when not given, 24h at most." },
    { name: "dns", value: "NAME", sentence: "A DNS name to put in too, or several with commas." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid x509 --spiffe-id spiffe://edge.example/printer --public-key printer.pub > printer.pem",
  async run(invocation, terminal) {
    const publicKey = readPublicKey(invocation.required("public-key"));
    const lifetimeSeconds = Math.floor(invocation.duration("ttl", HOUR_MS) / 1_000);
    const dnsNames = invocation.option("dns")?.split(",");
    const answer = withAuthority(stateDirOf(invocation), (authority) => {
      const svid = authority.issueX509Svid({
        spiffeId: invocation.required("spiffe-id"),
        publicKey,
        lifetimeSeconds,
        ...(dnsNames === undefined ? {} : { dnsNames }),
        context: { for: "outside peer" },
      });
      const { serial, notBefore, notAfter } = svid;
      return { serial, notBefore, notAfter, chain: formatPem("CERTIFICATE", svid.chain) };
    });
    show(answer, { invocation, terminal }, ({ chain }) => [chain.trimEnd()]);
    return 0;
  },
};

const bundle: Command = {
  words: ["svid", "bundle"],
  group: "Set up",
  sentence: "Print the trust domain's roots, by which peers verify one another.",
  arguments: [],
  options: [STATE_OPTION, JSON_OPTION, CONFIG_OPTION],
  example: "riprap svid bundle > bundle.pem",
  async run(invocation, terminal) {
    const answer = withAuthority(stateDirOf(invocation), (authority) => ({
      trustDomain: authority.trustDomain,
      roots: formatPem("CERTIFICATE", authority.bundle),
    }));
    show(answer, { invocation, terminal }, ({ roots }) => [roots.trimEnd()]);
    return 0;
  },
};

export const AUTHORITY_COMMANDS: readonly Command[] = [init, x509, bundle];

/** The first label of the host's name, in lower case; the CA says why when even that is no node name. */
export function nodeNameOfHost(): string {
  return (hostname().split(".")[0] ?? "").toLowerCase();
}

/** Opens this node's CA for one use, beside a daemon that may run. */
export function withAuthority<T>(stateDir: string, use: (authority: NodeAuthority) => T): T {
  const store = openStore(storePath(stateDir));
  try {
    const authority = openAuthority({ stateDir, clock: systemClock, store });
    try {
      return use(authority);
    } finally {
      authority.close();
    }
  } finally {
    store.close();
  }
}

function describeAuthority(authority: NodeAuthority, stateDir: string) {
  const { trustDomain, nodeName, roots, issuer } = authority.info();
  return {
    trustDomain,
    nodeName,
    stateDir,
    rootFingerprints: roots.map((root) => root.fingerprint),
    notAfter: issuer.notAfter,
  };
}

/** The uncompressed point (65 bytes) of a PEM public key. */
function readPublicKey(path: string): Uint8Array {
  let pem: string;
  try {
    pem = readFileSync(path, "utf8");
  } catch (cause) {
    throw new RiprapError("unreadable", `Cannot read the public key ${path}: ${describeError(cause)}`, { cause });
  }
  if (pem.includes("PRIVATE KEY")) {
    throw new RiprapError(
      "public_key_invalid",
      `Cannot use ${path}: it holds a private key, which must stay where it was made; give the public one (openssl pkey -pubout)`,
    );
  }
  try {
    const { kty, crv, x, y } = createPublicKey(pem).export({ format: "jwk" });
    if (kty === "EC" && crv === "P-256" && x !== undefined && y !== undefined) {
      return Buffer.concat([Uint8Array.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
    }
  } catch (cause) {
    throw new RiprapError("public_key_invalid", `Cannot use the public key ${path}: it is no PEM public key`, {
      cause,
    });
  }
  throw new RiprapError(
    "public_key_invalid",
    `Cannot use the public key ${path}: it is not on P-256 (openssl ecparam -genkey -name prime256v1)`,
  );
}
