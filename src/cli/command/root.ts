// The commands about the root key: take it off a node, ask for what only it can give, sign that where it is, install the answer.

import type { AuthorityList } from "../../ca.ts";
import type { FleetStatusView } from "../../daemon/fleet/port.ts";
import { RiprapError } from "../../error.ts";
import { KEEPS, type Keep, OPERATOR_REVOCATION_TYPES, type RevocationType } from "../../fleet.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option, SOCKET_OPTION } from "../command.ts";
import { readText, writeNewFile } from "../file.ts";
import type { SaidView } from "../fleet_word.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf, stateDirOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";
import { usageError } from "../usage.ts";

const DOCUMENT_BYTES_MAX = 262_144;
const ANSWER_MS = 30_000;
const ALL_KINDS = "WorkloadIdentity,Service,AccessPolicy,NodeGroup,TrustDomain";
const OUT: Option = {
  name: "out",
  value: "FILE",
  sentence: "Write to FILE, which must be new, instead of standard output.",
};

const exported: Command = {
  words: ["root", "export"],
  group: "Authorities",
  sentence: "Take the root key off this node, into a file for a safe place.",
  notes: [
    "FILE gets the key in the open (PKCS#8 DER, mode 0600), FILE.pem the roots. The node then signs nothing for other nodes before it has an issuing CA: riprap root request --issuing, riprap root sign where FILE is, riprap root install.",
    "With a copy of FILE anybody is the root of the trust domain.",
  ],
  arguments: [{ name: "FILE", sentence: "The file, which must not be there yet." }],
  options: [{ name: "keep", sentence: "Leave the key on the node too." }, STATE_OPTION, JSON_OPTION, CONFIG_OPTION],
  example: "riprap root export /media/safe/root.key",
  async run(invocation, terminal) {
    const stateDir = stateDirOf(invocation);
    const file = invocation.argument("FILE");
    const { bundlePem, exportNodeKey } = await import("../../ca.ts");
    const roots = await asOwner(stateDir, () => withAuthority(stateDir, (authority) => bundlePem(authority)));
    writeNewFile(`${file}.pem`, roots);
    const remove = !invocation.has("keep");
    await asOwner(stateDir, () => exportNodeKey(stateDir, { name: "root", file, remove }));
    show({ file, roots: `${file}.pem`, removed: remove }, { invocation, terminal }, () => [
      `the root key is in ${file}${remove ? ", and no longer on this node" : ""}; the roots are in ${file}.pem`,
    ]);
    return 0;
  },
};

const request: Command = {
  words: ["root", "request"],
  group: "Authorities",
  sentence: "Ask the root for an issuing CA, rights, or its word about the roots.",
  notes: [
    "An issuing node signs the intermediates of other nodes and admits them. An operator's key says what riprap apply --fleet and riprap revoke say; it is made on this machine and stays here.",
    "With --groups or --ids the operator sets and deletes only resources whose names begin with NAME and a dot, so that he takes nothing of anybody else's away.",
  ],
  arguments: [],
  options: [
    { name: "issuing", sentence: "A CA of path length 1 for this node, and the right to admit nodes." },
    { name: "operator", value: "NAME", sentence: "Rights for the operator's key of this machine, under this name." },
    { name: "kinds", value: "KINDS", sentence: "Resources that the operator may set; all kinds when not given." },
    { name: "groups", value: "GROUPS", sentence: "Only for nodes of these groups." },
    { name: "ids", value: "PREFIXES", sentence: "Only about these SPIFFE IDs; a prefix ends in '/'." },
    {
      name: "revoke",
      value: "TYPES",
      sentence: `What the operator may revoke: ${OPERATOR_REVOCATION_TYPES.join(", ")}; nothing when not given.`,
    },
    {
      name: "roots",
      sentence: "Tell the fleet of the roots that this node has and it does not know, or knows otherwise.",
    },
    {
      name: "end",
      value: "NODE",
      sentence: "End the issuing role of this node for ever; nodes that it admitted stay.",
    },
    { name: "reason", value: "TEXT", sentence: "Why the role ends." },
    {
      name: "keep",
      value: "WHAT",
      choices: KEEPS,
      sentence: "What stands of what NODE has said: all until now (when not given), what it revoked, or nothing.",
    },
    OUT,
    STATE_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap root request --issuing --out gate-2.ask",
  async run(invocation, terminal) {
    const { makeRootRequest } = await import("../root_word.ts");
    const { writeRootRequest } = await import("../../federation/root_request.ts");
    const issuer = invocation.option("end");
    const end =
      issuer === undefined
        ? undefined
        : { issuer, reason: invocation.option("reason") ?? "", keep: keepOf(invocation) };
    const roots = invocation.has("roots");
    const wanted = { issuing: invocation.has("issuing"), operator: operatorOf(invocation), roots, end };
    if (!wanted.issuing && !roots && wanted.operator === undefined && end === undefined) {
      throw usageError(
        "Cannot ask for nothing: give --issuing, --operator NAME, --roots or --end NODE",
        invocation.title,
      );
    }
    deliver(writeRootRequest(await makeRootRequest(stateDirOf(invocation), wanted)), { invocation, terminal });
    return 0;
  },
};

const sign: Command = {
  words: ["root", "sign"],
  group: "Authorities",
  sentence: "Give what a request asks for, where the root key is.",
  notes: [
    "Without --key it is signed with the root key of this node; with it on any machine, which needs no network and no daemon. What is given is told first, a line each.",
  ],
  arguments: [{ name: "FILE", sentence: "The request, or - for standard input." }],
  options: [
    { name: "key", value: "FILE", sentence: "The root key as riprap root export wrote it." },
    { name: "roots", value: "FILE", sentence: "The roots in PEM; the key's FILE.pem when not given." },
    OUT,
    STATE_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap root sign gate-2.ask --key /media/safe/root.key --out gate-2.answer",
  async run(invocation, terminal) {
    const { describeRootRequest, parseRootRequest, writeRootAnswer } = await import("../../federation/root_request.ts");
    const { answerRootRequest } = await import("../root_word.ts");
    const text = await readText(invocation.argument("FILE"), { terminal, bytesMax: DOCUMENT_BYTES_MAX });
    const asked = parseRootRequest(text);
    const key = invocation.option("key");
    const place =
      key === undefined
        ? { stateDir: stateDirOf(invocation), exported: undefined }
        : { stateDir: "", exported: { key, roots: invocation.option("roots") ?? `${key}.pem` } };
    const answer = await answerRootRequest(asked, place);
    for (const line of describeRootRequest(asked)) terminal.warn(`riprap: ${line}`);
    deliver(writeRootAnswer(answer), { invocation, terminal });
    return 0;
  },
};

const install: Command = {
  words: ["root", "install"],
  group: "Authorities",
  sentence: "Install what the root signed, and tell the fleet.",
  arguments: [{ name: "FILE", sentence: "The answer, or - for standard input." }],
  options: [JSON_OPTION, SOCKET_OPTION, CONFIG_OPTION],
  example: "riprap root install gate-2.answer",
  async run(invocation, terminal) {
    const { parseRootAnswer } = await import("../../federation/root_request.ts");
    const client = clientOf(invocation);
    const own = (await client.get<FleetStatusView>("/v1/fleet/status")).trustDomain;
    const text = await readText(invocation.argument("FILE"), { terminal, bytesMax: DOCUMENT_BYTES_MAX });
    const { trustDomain, certificates, statements } = parseRootAnswer(text);
    if (trustDomain !== own) {
      throw new RiprapError(
        "root_foreign",
        `Cannot install the answer: it is of ${trustDomain}, and this node is of ${own}`,
      );
    }
    if (certificates !== "") await installCertificates(client, certificates);
    const texts = statements.map((bytes) => Buffer.from(bytes).toString("base64"));
    const said = await client.post<readonly SaidView[]>("/v1/fleet/statements", { body: JSON.stringify(texts) });
    const refused = said.find(({ taken }) => !taken);
    if (refused !== undefined) {
      const remedy =
        "if its root is another than the fleet's, have one that the fleet knows sign riprap root request --roots, and install both";
      const fact = refused.reason ?? "it was refused";
      throw new RiprapError("fleet_refused", `Cannot install ${refused.key}: ${fact}; ${remedy}`);
    }
    show({ issuing: certificates !== "", said }, { invocation, terminal }, ({ issuing }) => [
      ...(issuing ? ["this node signs the intermediates of nodes from now on"] : []),
      ...said.map((one) => `${one.key} stands in the fleet`),
    ]);
    return 0;
  },
};

/** An answer may be installed again: for its words, when the fleet did not know its root yet. */
async function installCertificates(client: ReturnType<typeof clientOf>, body: string): Promise<void> {
  const query = { reason: "the root signed it" };
  try {
    await client.post("/v1/authorities/install", { query, body, waitMs: ANSWER_MS });
  } catch (thrown) {
    if (!(thrown instanceof RiprapError) || thrown.code !== "csr_missing") throw thrown;
    const { intermediate, authorities } = await client.get<AuthorityList>("/v1/authorities");
    const roots = new Set(authorities.filter(({ isHeld }) => isHeld).map(({ id }) => id));
    // Nothing waits for a certificate, and this node signs under a root by a key of its own: it was installed before.
    if (!roots.has(intermediate.root)) throw thrown;
  }
}

export const ROOT_COMMANDS: readonly Command[] = [exported, request, sign, install];

function keepOf(invocation: Invocation): Keep {
  const said = invocation.option("keep");
  return KEEPS.find((one) => one === said) ?? "all";
}

function operatorOf(invocation: Invocation) {
  const name = invocation.option("operator");
  if (name === undefined) return undefined;
  const list = (option: string) => invocation.option(option)?.split(",");
  const revoke = (list("revoke") ?? []).map((type): RevocationType => {
    const known = OPERATOR_REVOCATION_TYPES.find((one) => one === type);
    if (known !== undefined) return known;
    const fact = `it is none of ${OPERATOR_REVOCATION_TYPES.join(", ")}`;
    throw usageError(`Cannot use --revoke "${type}": ${fact}`, invocation.title);
  });
  const kinds = list("kinds") ?? ALL_KINDS.split(",");
  return { name, rights: { kinds, groups: list("groups"), idPrefixes: list("ids"), revoke } };
}

function deliver(text: string, { invocation, terminal }: { invocation: Invocation; terminal: Terminal }): void {
  const path = invocation.option("out");
  if (path === undefined) {
    terminal.print(text.trimEnd());
    return;
  }
  writeNewFile(path, text);
  terminal.print(`wrote ${path}`);
}
