// The settings of the daemon: one table gives key, default, parser and a sentence. Never guesses: an unknown key is an error.

import { readFileSync } from "node:fs";
import { isIP, isIPv4, isIPv6 } from "node:net";
import { isAbsolute } from "node:path";
import { MODE } from "../abi.ts";
import type { CustodySetting, TokenAlgorithm } from "../ca.ts";
import { describeError, RiprapError } from "../error.ts";
import { parseYaml, type YamlScalar } from "../yaml.ts";

export const CONFIG_PATH = "/etc/riprap/riprap.yaml";

type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fact: string };
interface Entry<T> {
  /** As it is written in the file. */
  readonly default: string;
  readonly parse: (scalar: YamlScalar) => Parsed<T>;
  readonly sentence: string;
}

/** A cluster of clusters names fewer; each is tried in turn. */
const NATS_SERVERS_MAX = 32;
/** What one node can announce (see the fleet's presence). */
const NODE_ADDRESSES_MAX = 16;
const SECOND = 1000;
const HOUR = 3600 * SECOND;
export type UnknownMode = "observe" | "permissive" | "enforce";
export type LogLevel = "error" | "warn" | "info" | "debug";
/** Written out: whoever reads the configuration need not load the CA. */
const CUSTODY_SETTINGS: readonly CustodySetting[] = ["auto", "tpm", "systemd", "file"];
const UNKNOWN_MODES: readonly UnknownMode[] = ["observe", "permissive", "enforce"];
const TOKEN_ALGORITHMS: readonly TokenAlgorithm[] = ["ES256", "RS256"];
const LOG_LEVELS: readonly LogLevel[] = ["error", "warn", "info", "debug"];

/** Every setting; the systemd folder's commented configuration is held against it by a test. */
export const CONFIG_TABLE = {
  stateDir: entry("/var/lib/riprap", absolutePath, "Where the CA, the journal and the counters live; of root alone."),
  keyCustody: entry(
    "auto",
    oneOf(CUSTODY_SETTINGS),
    "What keeps the keys of the CA at rest: tpm, systemd, file, or auto for the best of them. Heeded when they are made.",
  ),
  rulesDir: entry("/etc/riprap/rules.d", absolutePath, "The folder of YAML resources, watched for changes."),
  controlSocket: entry("/run/riprap/control.sock", absolutePath, "The Unix socket that the riprap command talks to."),
  workloadApi: entry("true", boolean, "Serve the SPIFFE Workload API to the programs of this machine."),
  workloadSocket: entry(
    "/run/riprap/workload.sock",
    absolutePath,
    "The Unix socket of the Workload API: open to everybody, since the kernel says who calls.",
  ),
  workloadTcp: entry(
    "",
    loopbackAddress,
    "Serve the Workload API there too, as a loopback address:port, where a client knows no Unix socket; rules then tell users apart, not a user's programs.",
  ),
  device: entry("/dev/riprap", absolutePath, "The device of the kernel module."),
  requireKernel: entry(
    "false",
    boolean,
    "Refuse to start where the kernel module is not there, instead of enforcing nothing.",
  ),
  unknownMode: entry(
    "enforce",
    oneOf(UNKNOWN_MODES),
    "What becomes of a process that a rule could select and that cannot be attested: enforce, permissive or observe.",
  ),
  attestTimeout: entry("3s", duration(1, 60 * SECOND), "How long a connect() waits for its process's identity."),
  handshakeTimeout: entry("10s", duration(100, 120 * SECOND), "How long a TLS handshake may take."),
  sniffTimeout: entry(
    "500ms",
    duration(1, 60 * SECOND),
    "How long a permissive accept waits for a first byte before it takes the connection as plaintext.",
  ),
  svidLifetime: entry(
    "1h",
    duration(10 * SECOND, HOUR),
    "The life of an SVID where its rule gives none; an hour at most.",
  ),
  jwtAlgorithm: entry(
    "ES256",
    oneOf(TOKEN_ALGORITHMS),
    "What JWT-SVIDs are signed with: ES256, or RS256 for those who know no other. A key of the other kind is replaced in order.",
  ),
  keyPublishAhead: entry(
    "15m",
    duration(0, 168 * HOUR),
    "How long a new root or token key is in the trust bundle before it signs; others look at the bundle every five minutes.",
  ),
  witSvid: entry(
    "false",
    boolean,
    "Issue WIT-SVIDs too (spiffe/spiffe at 665a28f, where their standard is still incubating).",
  ),
  natsServers: entry(
    "",
    serverUrls,
    "The NATS servers that connect this node to its fleet, as nats://a:4222, tls://b:4222 (which must speak TLS); without any it stands alone.",
  ),
  natsCredentials: entry(
    "",
    absolutePathOrNone,
    "A NATS credentials file or nkey seed; without it this node's own nkey, whose public half `riprap fleet nats-config` prints.",
  ),
  natsCa: entry(
    "",
    absolutePathOrNone,
    "PEM of the CA of the NATS servers' certificates: with it, a server without TLS is refused.",
  ),
  nodeAddresses: entry(
    "",
    nodeAddresses,
    "The addresses at which other nodes reach this one's workloads, with commas; without, those of its network cards.",
  ),
  bundleListen: entry(
    "",
    listenAddress,
    "Where the SPIFFE bundle endpoint of profile https_spiffe listens, as address:port; without one, nowhere.",
  ),
  webListen: entry(
    "",
    listenAddress,
    "Where the bundle endpoint of profile https_web and OIDC discovery listen, as address:port; without one, nowhere.",
  ),
  webCertificate: entry(
    "/etc/riprap/web.crt",
    absolutePath,
    "The PEM certificate of webListen with its chain, of the web's PKI; read again when it changes.",
  ),
  webKey: entry(
    "/etc/riprap/web.key",
    absolutePath,
    "The PEM private key of webCertificate, which others may not read.",
  ),
  oidcIssuer: entry(
    "",
    issuerUrl,
    "The https URL under which webListen is reached for OIDC discovery, and the iss of JWT-SVIDs; without one, no discovery.",
  ),
  webRoots: entry(
    "/etc/ssl/certs/ca-certificates.crt",
    absolutePath,
    "The CA certificates in PEM by which other domains' endpoints of profile https_web are known.",
  ),
  healthListen: entry(
    "",
    loopbackAddress,
    "Where /live, /ready and /metrics listen in plain HTTP, as a loopback address:port; without one, nowhere.",
  ),
  logLevel: entry("info", oneOf(LOG_LEVELS), "The least severe events that are logged: error, warn, info or debug."),
} as const;

type Table = typeof CONFIG_TABLE;
/** Durations are in milliseconds. */
export type DaemonConfig = { readonly [K in keyof Table]: Table[K] extends Entry<infer T> ? T : never };

/** The configuration of a file's text; RiprapError `config_invalid` names every wrong key with its line. */
export function parseConfig(text: string, source = CONFIG_PATH): DaemonConfig {
  const { documents, faults } = parseYaml(text);
  const wrong = faults.map((fault) => `${source}:${fault.at.line}: ${fault.message}: ${fault.remedy}`);
  const root = documents[0]?.root;
  if (documents.length > 1) wrong.push(`${source}: it has ${documents.length} documents: keep one`);
  if (root !== undefined && root.type !== "map")
    wrong.push(`${source}:${root.at.line}: it is no map: write "key: value" lines`);
  const values: Record<string, unknown> = {};
  for (const [key, { default: text, parse }] of Object.entries(CONFIG_TABLE)) {
    const parsed = parse({ type: "scalar", at: { line: 0, column: 0 }, value: text, text });
    if (parsed.ok) values[key] = parsed.value;
  }
  for (const { key, at, value } of root?.type === "map" ? root.entries : []) {
    const place = `${key}: ${source}:${at.line}`;
    if (!(key in CONFIG_TABLE)) {
      wrong.push(`${place}: unknown key; the keys are ${Object.keys(CONFIG_TABLE).join(", ")}`);
    } else if (value.type !== "scalar") {
      wrong.push(`${place}: it takes one value, not a ${value.type}`);
    } else {
      const parsed = CONFIG_TABLE[key as keyof Table].parse(value);
      if (parsed.ok) values[key] = parsed.value;
      else wrong.push(`${place}: ${JSON.stringify(value.text)} ${parsed.fact}`);
    }
  }
  if (wrong.length > 0) throw new RiprapError("config_invalid", `Cannot use the configuration: ${wrong.join("; ")}`);
  return values as DaemonConfig;
}

/** The configuration of a file; the defaults where there is none. */
export function loadConfig(path = CONFIG_PATH): DaemonConfig {
  let text: string | undefined;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== "ENOENT") {
      throw new RiprapError("config_invalid", `Cannot read the configuration ${path}: ${describeError(cause)}`, {
        cause,
      });
    }
  }
  if (text === "") {
    const remedy = "write it again, or remove it to have everything as when it is not set";
    throw new RiprapError("config_invalid", `Cannot use the configuration ${path}: it is empty; ${remedy}`);
  }
  return parseConfig(text ?? "", path);
}

/** The module's number of an unknown mode. */
export function unknownModeNumber(mode: UnknownMode): number {
  return MODE[mode];
}

function entry<T>(text: string, parse: Entry<T>["parse"], sentence: string): Entry<T> {
  return { default: text, parse, sentence };
}

function absolutePath({ value, text }: YamlScalar): Parsed<string> {
  const good = typeof value === "string" && isAbsolute(text) && !text.includes("\0");
  return good ? { ok: true, value: text } : { ok: false, fact: "is not an absolute path" };
}

function absolutePathOrNone(scalar: YamlScalar): Parsed<string> {
  return isNothing(scalar) ? { ok: true, value: "" } : absolutePath(scalar);
}

function serverUrls(scalar: YamlScalar): Parsed<readonly string[]> {
  const value = listOf(scalar);
  const wrong = value.find((url) => !/^(nats|tls):\/\/(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?$/.test(url));
  if (value.length > NATS_SERVERS_MAX) return { ok: false, fact: `has more than ${NATS_SERVERS_MAX} servers` };
  if (wrong === undefined) return { ok: true, value };
  const unlike = "which is not like nats://host:4222 or tls://host:4222";
  const remedy = /^wss?:/.test(wrong) ? "; name the server's port for NATS clients, WebSocket is not spoken" : "";
  return { ok: false, fact: `has "${wrong}", ${unlike}${remedy}` };
}

function nodeAddresses(scalar: YamlScalar): Parsed<readonly string[]> {
  const value = listOf(scalar);
  const wrong = value.find((text) => isIP(text) === 0);
  if (value.length > NODE_ADDRESSES_MAX) return { ok: false, fact: `has more than ${NODE_ADDRESSES_MAX} addresses` };
  return wrong === undefined ? { ok: true, value } : { ok: false, fact: `has "${wrong}", which is no IP address` };
}

function listOf(scalar: YamlScalar): string[] {
  return isNothing(scalar) ? [] : scalar.text.split(",").map((item) => item.trim());
}

function isNothing({ text, value }: YamlScalar): boolean {
  return text === "" || value === null;
}

interface Address {
  readonly host: string;
  readonly port: number;
}

function listenAddress({ text }: YamlScalar): Parsed<Address | undefined> {
  if (text === "") return { ok: true, value: undefined };
  const [, v6, v4, port = ""] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 ?? v4 ?? "";
  const isAddress = v6 === undefined ? isIPv4(host) : isIPv6(host);
  return isAddress && Number(port) <= 65535
    ? { ok: true, value: { host, port: Number(port) } }
    : { ok: false, fact: "is no address and port like 0.0.0.0:8443 or [::]:8443" };
}

/** What has no certificate to show is for this machine alone. */
function loopbackAddress(scalar: YamlScalar): Parsed<Address | undefined> {
  const parsed = listenAddress(scalar);
  if (!parsed.ok || parsed.value === undefined) return parsed;
  const { host } = parsed.value;
  const isLoopback = host === "::1" || (isIPv4(host) && host.startsWith("127."));
  return isLoopback ? parsed : { ok: false, fact: "is no loopback address like 127.0.0.1:9090" };
}

function issuerUrl({ text }: YamlScalar): Parsed<string | undefined> {
  if (text === "") return { ok: true, value: undefined };
  // As others will compare it, character by character.
  const isPlain = /^https:\/\/[a-z0-9.-]+(?::\d{1,5})?(?:\/[A-Za-z0-9._~-]+)*$/.test(text) && URL.canParse(text);
  return isPlain ? { ok: true, value: text } : { ok: false, fact: "is no plain https URL without a slash at its end" };
}

function boolean({ text }: YamlScalar): Parsed<boolean> {
  return text === "true" || text === "false"
    ? { ok: true, value: text === "true" }
    : { ok: false, fact: "is neither true nor false" };
}

function oneOf<T extends string>(words: readonly T[]): Entry<T>["parse"] {
  return ({ text }) => {
    const value = words.find((word) => word === text);
    return value !== undefined ? { ok: true, value } : { ok: false, fact: `is none of ${words.join(", ")}` };
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: 60 * SECOND, h: HOUR };

function duration(least: number, most: number): Entry<number>["parse"] {
  return ({ text }) => {
    const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
    const unit = UNIT_MS[match?.[2] ?? ""];
    if (match === null || unit === undefined) return { ok: false, fact: "is no duration like 500ms, 3s, 10m or 1h" };
    const value = Number(match[1]) * unit;
    if (value < least || value > most) return { ok: false, fact: `is not between ${least}ms and ${most}ms` };
    return { ok: true, value };
  };
}
