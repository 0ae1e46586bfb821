// The commands for what other programs read and sign: a request to an upstream CA, its answer, this node's CRL.

import type { StepDone } from "../../ca.ts";
import { systemClock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { readText, writeNewFile } from "../file.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf, stateDirOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";
import { throughEither } from "./authority_life.ts";

const CHAIN_BYTES_MAX = 128 * 1024;
/** A hundred thousand entries in PEM. */
const CRL_BYTES_MAX = 12 << 20;
const OUT = { name: "out", value: "FILE", sentence: "Write to FILE, which must be new, instead of standard output." };
const STATE = { ...STATE_OPTION, sentence: "Work on this state directory, without a daemon." };

const csr: Command = {
  words: ["authority", "csr"],
  group: "Authorities",
  sentence: "Make a certificate request for a CA outside of riprap to sign.",
  notes: [
    "The request asks for this node's intermediate (path length 0), or with --issuing for a CA that signs the intermediates of nodes (path length 1). The key never leaves the node; asking again keeps it until an answer is installed.",
    "The CA must copy the URI name and sign with critical basicConstraints, keyUsage (keyCertSign, cRLSign) and nameConstraints (permitted;URI: the trust domain). CAs above have keys of P-256, P-384 or RSA from 2048 to 4096 bits, and sign with SHA-256 or longer.",
  ],
  arguments: [],
  options: [
    { name: "issuing", sentence: "Ask for a CA that signs the intermediates of nodes." },
    OUT,
    STATE,
    SOCKET_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap authority csr --out gate-1.csr",
  async run(invocation, terminal) {
    const role = invocation.has("issuing") ? "issuing" : "intermediate";
    const pem = await throughEither(invocation, {
      async daemon() {
        const query = { issuing: role === "issuing" ? "1" : undefined };
        return (await clientOf(invocation).post<{ readonly pem: string }>("/v1/authorities/csr", { query })).pem;
      },
      local: (authorities) => authorities.request(role),
    });
    deliver(pem, { invocation, terminal });
    return 0;
  },
};

const install: Command = {
  words: ["authority", "install"],
  group: "Authorities",
  sentence: "Install what an upstream CA signed for this node's request.",
  notes: [
    "FILE holds certificates in PEM: this node's first, those above it, the root last. The root goes into the trust bundle, and is used once it is activated: everything that this root signs for the trust domain is believed from then on.",
  ],
  arguments: [{ name: "FILE", sentence: "The certificates, or - for standard input." }],
  options: [
    { name: "reason", value: "TEXT", sentence: "Why, for the account of steps." },
    STATE,
    JSON_OPTION,
    SOCKET_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap authority install gate-1.pem",
  async run(invocation, terminal) {
    const body = await readText(invocation.argument("FILE"), { terminal, bytesMax: CHAIN_BYTES_MAX });
    if (body.includes("PRIVATE KEY")) {
      const remedy = "give the certificates alone";
      throw new RiprapError("upstream_malformed", `Cannot install the file: it holds a private key; ${remedy}`);
    }
    const reason = invocation.option("reason") ?? "";
    const done = await throughEither(invocation, {
      daemon: () => clientOf(invocation).post<StepDone>("/v1/authorities/install", { query: { reason }, body }),
      local: (authorities) => authorities.install(body, { reason }),
    });
    show(done, { invocation, terminal }, ({ authority, notes }) => [
      `x509 authority ${authority.id}: ${authority.phase}`,
      ...notes,
    ]);
    return 0;
  },
};

const crl: Command = {
  words: ["authority", "crl"],
  group: "Authorities",
  sentence: "Print the CRL of this node's intermediate, or judge another.",
  notes: [
    "It is good for a day, and another comes with every revocation. openssl verify -crl_check takes it.",
    "--check needs no daemon: the CRL is taken when it is whole, in force and signed by this node's intermediate, or by the CA of --issuer where that leads to a root of this trust domain. It then says what it lists, and otherwise why not (status 1).",
  ],
  arguments: [],
  options: [
    { name: "check", value: "FILE", sentence: "Judge the CRL in FILE (PEM), or - for standard input." },
    {
      name: "issuer",
      value: "FILE",
      sentence: "With --check: the certificates of the CA that signed it (PEM), without the root.",
    },
    OUT,
    STATE,
    JSON_OPTION,
    SOCKET_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap authority crl --out gate-1.crl",
  async run(invocation, terminal) {
    const file = invocation.option("check");
    if (file !== undefined) return judge(file, { invocation, terminal });
    const isLocal = invocation.option("state-dir") !== undefined;
    deliver(isLocal ? await crlOfFiles(stateDirOf(invocation)) : await clientOf(invocation).text("/v1/crl"), {
      invocation,
      terminal,
    });
    return 0;
  },
};

export const AUTHORITY_UPSTREAM_COMMANDS: readonly Command[] = [csr, install, crl];

async function crlOfFiles(stateDir: string): Promise<string> {
  const { crlPem } = await import("../../ca.ts");
  return asOwner(stateDir, () => withAuthority(stateDir, crlPem));
}

async function judge(file: string, on: { invocation: Invocation; terminal: Terminal }): Promise<number> {
  const { invocation, terminal } = on;
  const { checkCrl } = await import("../../ca.ts");
  const crl = await readText(file, { terminal, bytesMax: CRL_BYTES_MAX });
  const issuerFile = invocation.option("issuer");
  const issuer =
    issuerFile === undefined ? {} : { issuer: await readText(issuerFile, { terminal, bytesMax: CHAIN_BYTES_MAX }) };
  const stateDir = stateDirOf(invocation);
  const checked = await asOwner(stateDir, () => checkCrl({ stateDir, clock: systemClock, crl, ...issuer }));
  show(checked, on, ({ number, nextUpdate, revoked }) => [
    `CRL ${number}, good until ${nextUpdate}: ${revoked.length} revoked`,
    ...revoked.map(({ serial, revokedAt }) => `${serial}  ${revokedAt}`),
  ]);
  return 0;
}

function deliver(document: string, { invocation, terminal }: { invocation: Invocation; terminal: Terminal }): void {
  const path = invocation.option("out");
  if (path === undefined) {
    terminal.print(document.trimEnd());
    return;
  }
  writeNewFile(path, document);
  terminal.print(`wrote ${path}`);
}
