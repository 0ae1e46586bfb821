// The commands of the node's CA: init, and SVIDs for peers outside riprap. They work on the state directory, not through the daemon.

import { hostname } from "node:os";
import { systemClock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import { readText } from "../file.ts";
import { show } from "../output.ts";
import { configOf, stateDirOf } from "../setting.ts";

const HOUR_MS = 3_600_000;
/** A P-256 public key in PEM is 178 bytes; comments may stand around it. */
const PUBLIC_KEY_BYTES_MAX = 16_384;

const init: Command = {
  words: ["init"],
  group: "Set up",
  sentence: "Make a trust domain, with this machine as its first node.",
  notes: [
    "Makes the root and this node's intermediate under the state directory. Further nodes join with riprap join, by a token of riprap token create here; or by file, without a broker, with riprap enrol.",
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
    const trustDomain = invocation.argument("DOMAIN");
    const custody = configOf(invocation).keyCustody;
    const { initTrustDomain } = await import("../../ca.ts");
    const answer = await asOwner(stateDir, async () => {
      await initTrustDomain({ stateDir, trustDomain, nodeName, clock: systemClock, custody });
      return withAuthority(stateDir, (authority) => {
        const { roots, issuer, keyStorage } = authority.info();
        return {
          trustDomain,
          nodeName,
          stateDir,
          rootFingerprint: roots[0]?.fingerprint ?? "",
          notAfter: issuer.notAfter,
          keyStorage,
        };
      });
    });
    show(answer, { invocation, terminal }, () => [
      `trust domain ${answer.trustDomain}, first node ${answer.nodeName}, state in ${stateDir}`,
      `root fingerprint (SHA-256): ${answer.rootFingerprint}`,
      `keys: ${answer.keyStorage}`,
      "next: riprap run, then riprap apply -f RULES; on a further machine: riprap join, or riprap enrol request",
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
      sentence: "A P-256 public key in PEM (openssl pkey -pubout), or - for standard input.",
    },
    { name: "ttl", value: "DURATION", sentence: "How long it is valid, 1h when not given, 24h at most." },
    { name: "dns", value: "NAME", sentence: "A DNS name to put in too, or several with commas." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid x509 --spiffe-id spiffe://edge.example/printer --public-key printer.pub > printer.pem",
  async run(invocation, terminal) {
    const path = invocation.required("public-key");
    const publicKeyPem = await readText(path, { terminal, bytesMax: PUBLIC_KEY_BYTES_MAX });
    if (publicKeyPem.includes("PRIVATE KEY")) {
      throw new RiprapError(
        "public_key_invalid",
        `Cannot use ${path}: it holds a private key, which must stay where it was made; give the public one (openssl pkey -pubout)`,
      );
    }
    const lifetimeSeconds = Math.floor(invocation.duration("ttl", HOUR_MS) / 1_000);
    const spiffeId = invocation.required("spiffe-id");
    const dnsNames = invocation.option("dns")?.split(",") ?? [];
    const stateDir = stateDirOf(invocation);
    const { issueForPublicKey } = await import("../../ca.ts");
    const request = { spiffeId, publicKeyPem, lifetimeSeconds, dnsNames, context: { by: "riprap svid x509" } };
    const answer = await asOwner(stateDir, () =>
      withAuthority(stateDir, (authority) => issueForPublicKey(authority, request)),
    );
    show({ spiffeId, ...answer }, { invocation, terminal }, ({ chainPem }) => [chainPem.trimEnd()]);
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
    const { bundlePem } = await import("../../ca.ts");
    const stateDir = stateDirOf(invocation);
    const answer = await asOwner(stateDir, () =>
      withAuthority(stateDir, (authority) => ({ trustDomain: authority.trustDomain, rootsPem: bundlePem(authority) })),
    );
    show(answer, { invocation, terminal }, ({ rootsPem }) => [rootsPem.trimEnd()]);
    return 0;
  },
};

export const AUTHORITY_COMMANDS: readonly Command[] = [init, x509, bundle];

/** The first label of the host's name, in lower case; the CA says why when even that is no node name. */
export function nodeNameOfHost(): string {
  return (hostname().split(".")[0] ?? "").toLowerCase();
}
