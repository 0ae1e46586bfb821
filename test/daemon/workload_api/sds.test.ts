// Envoy's secret discovery on the Workload API's socket, spoken by a client of an independent protobuf library.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import {
  type Client,
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { SECRET_TYPE } from "../../../src/daemon/workload_api/sds_message.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { ManualClock } from "../../manual_clock.ts";
import { scratchDirectories } from "../../scratch.ts";
import {
  type Endpoint,
  type EndpointOptions,
  Inbox,
  identityRule,
  openEndpoint,
  type Reply,
  statusOf,
} from "./endpoint.ts";

const scratch = scratchDirectories();
const APP = "spiffe://example.org/app";
const ENVOY = { id: "e", user_agent_build_version: { version: { major_number: 1, minor_number: 40 } } };

interface SdsClient extends Client {
  StreamSecrets(): ClientDuplexStream<object, Reply>;
  DeltaSecrets(): ClientDuplexStream<object, Reply>;
  FetchSecrets(request: object, done: (error: ServiceError | null, reply: Reply) => void): void;
}

let endpoint: Endpoint;
let client: SdsClient;

async function open(rules: string, options: EndpointOptions = {}): Promise<void> {
  endpoint = await openEndpoint(scratch(), rules, options);
  const definition = loadSync(join(import.meta.dir, "sds.proto"), { keepCase: true, defaults: true });
  const root = loadPackageDefinition(definition) as never as {
    envoy: { service: { secret: { v3: { SecretDiscoveryService: new (path: string, by: object) => SdsClient } } } };
  };
  client = new root.envoy.service.secret.v3.SecretDiscoveryService(
    `unix://${endpoint.path}`,
    credentials.createInsecure(),
  );
}

const conversations: Conversation[] = [];

class Conversation {
  readonly #call: ClientDuplexStream<object, Reply>;
  readonly inbox: Inbox;

  constructor(method: "StreamSecrets" | "DeltaSecrets") {
    this.#call = client[method]();
    this.inbox = new Inbox(this.#call);
    conversations.push(this);
  }

  say(request: object): void {
    this.#call.write({ type_url: SECRET_TYPE, ...request });
  }

  cancel(): void {
    this.#call.cancel();
  }
}

const fetch = (request: object): Promise<Reply> =>
  new Promise((resolve, reject) =>
    client.FetchSecrets({ type_url: SECRET_TYPE, ...request }, (error, reply) =>
      error ? reject(error) : resolve(reply),
    ),
  );

interface Source {
  readonly inline_bytes: Buffer;
}
interface Secret {
  readonly name: string;
  readonly tls_certificate: { certificate_chain: Source; private_key: Source } | null;
  readonly validation_context: {
    trusted_ca: Source | null;
    custom_validator_config: {
      name: string;
      typed_config: { type_url: string; value: { trust_domains: { name: string; trust_bundle: Source }[] } };
    } | null;
  } | null;
}

function secretsOf(reply: Reply): ReadonlyMap<string, Secret> {
  const list = reply["resources"] as { type_url?: string; value?: Secret; resource?: { value: Secret } }[];
  return new Map(
    list.map(({ value, resource }) => {
      const secret = (value ?? resource?.value) as Secret;
      return [secret.name, secret];
    }),
  );
}

function leafOf(secret: Secret | undefined): X509Certificate {
  if (secret?.tls_certificate == null) throw new Error("it has no certificate");
  const { certificate_chain: chain, private_key: key } = secret.tls_certificate;
  const leaf = new X509Certificate(chain.inline_bytes);
  expect(leaf.checkPrivateKey(createPrivateKey(key.inline_bytes))).toBe(true);
  expect(chain.inline_bytes.toString().match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  return leaf;
}

function domainsOf(secret: Secret | undefined): string[] {
  const config = secret?.validation_context?.custom_validator_config;
  expect(config?.name).toBe("envoy.tls.cert_validator.spiffe");
  expect(config?.typed_config.type_url).toEndWith("tls.v3.SPIFFECertValidatorConfig");
  for (const { trust_bundle } of config?.typed_config.value.trust_domains ?? [])
    expect(new X509Certificate(trust_bundle.inline_bytes).ca).toBe(true);
  return config?.typed_config.value.trust_domains.map(({ name }) => name) ?? [];
}

const partner = () => ({ ...endpoint.bundle, trustDomain: TrustDomain.parse("partner.example") });

beforeEach(() => {
  conversations.length = 0;
});

afterEach(async () => {
  for (const conversation of conversations) conversation.cancel();
  client.close();
  await endpoint.close();
});

describe("FetchSecrets", () => {
  test("FetchSecrets() knows the SVID by its ID and as default, roots by trust domain, ROOTCA and ALL", async () => {
    await open(identityRule("app"));
    endpoint.setForeign([partner()]);
    const names = ["default", APP, "ROOTCA", "ALL", "spiffe://partner.example"];
    const reply = await fetch({ resource_names: names, node: ENVOY });
    const secrets = secretsOf(reply);
    expect([...secrets.keys()].sort()).toEqual(names.toSorted());
    for (const name of ["default", APP]) expect(leafOf(secrets.get(name)).subjectAltName).toBe(`URI:${APP}`);
    expect(domainsOf(secrets.get("ROOTCA"))).toEqual(["example.org"]);
    expect(domainsOf(secrets.get("spiffe://partner.example"))).toEqual(["partner.example"]);
    expect(domainsOf(secrets.get("ALL"))).toEqual(["example.org", "partner.example"]);
    expect(reply["type_url"]).toBe(SECRET_TYPE);
  });

  test("FetchSecrets() without names gives everything, and plain roots to who has no SPIFFE validator or wants none", async () => {
    await open(identityRule("app"));
    const old = { id: "e", user_agent_build_version: { version: { major_number: 1, minor_number: 17 } } };
    const unwilling = { ...ENVOY, metadata: { fields: { disable_spiffe_cert_validation: { bool_value: true } } } };
    const worded = { ...ENVOY, metadata: { fields: { disable_spiffe_cert_validation: { string_value: "true" } } } };
    for (const node of [old, unwilling, worded, undefined]) {
      const secrets = secretsOf(await fetch({ node }));
      expect([...secrets.keys()].sort()).toEqual(["spiffe://example.org", APP].sort());
      const roots = secrets.get("spiffe://example.org")?.validation_context?.trusted_ca?.inline_bytes as Buffer;
      expect(new X509Certificate(roots).ca).toBe(true);
    }
    expect(domainsOf(secretsOf(await fetch({ node: ENVOY })).get("spiffe://example.org"))).toEqual(["example.org"]);
  });

  test("FetchSecrets() refuses another's SVID, a foreign trust domain that is not held, other types, and what is malformed", async () => {
    await open(identityRule("app"));
    for (const name of ["spiffe://example.org/other", "spiffe://partner.example", "nobody"])
      expect((await statusOf(fetch({ resource_names: [name] }))).code).toBe(7);
    expect((await statusOf(fetch({ type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster" }))).code).toBe(3);
    expect((await statusOf(fetch({ resource_names: Array.from({ length: 257 }, (_, n) => `n${n}`) }))).code).toBe(3);
    expect((await statusOf(fetch({ resource_names: ["x".repeat(2049)] }))).code).toBe(3);
  });

  test("FetchSecrets() gives no key that the rule keeps in the kernel, but the roots", async () => {
    await open(identityRule("app", { delivery: "kernel" }));
    expect((await statusOf(fetch({ resource_names: ["default"] }))).details).toContain(
      "keeps private keys in the kernel",
    );
    expect([...secretsOf(await fetch({})).keys()]).toEqual(["spiffe://example.org"]);
  });

  test("FetchSecrets() tells nothing to who has no identity", async () => {
    await open(identityRule("app", { exe: "/bin/none" }));
    expect((await statusOf(fetch({ resource_names: ["ROOTCA"] }))).code).toBe(7);
  });
});

describe("StreamSecrets", () => {
  test("StreamSecrets() sends once, is quiet when taken or not, and sends anew when the identity or the names change", async () => {
    await open(identityRule("app"));
    const stream = new Conversation("StreamSecrets");
    stream.say({ resource_names: ["default"], node: ENVOY });
    const first = await stream.inbox.next();
    const serial = leafOf(secretsOf(first).get("default")).serialNumber.toLowerCase();
    const { version_info: version, nonce } = first as { version_info: string; nonce: string };
    stream.say({ resource_names: ["default"], version_info: version, response_nonce: nonce });
    stream.say({
      resource_names: ["default"],
      version_info: "",
      response_nonce: nonce,
      error_detail: { code: 3, message: "bad key" },
    });
    while (endpoint.api.rejectedSecrets === 0) await Bun.sleep(1);
    endpoint.setRules(identityRule("other"));
    const second = await stream.inbox.next();
    expect(leafOf(secretsOf(second).get("default")).subjectAltName).toBe("URI:spiffe://example.org/other");
    expect(stream.inbox.waiting).toBe(0);
    expect(second["nonce"]).not.toBe(nonce);
    expect(endpoint.isRevoked(serial)).toBe(true);
    expect(endpoint.log.some((line) => line.includes("bad key"))).toBe(true);
    // Of an answer that is not the last: passed over, though it names something new.
    stream.say({ resource_names: ["default", "ROOTCA"], version_info: version, response_nonce: nonce });
    stream.say({ resource_names: ["ROOTCA"], version_info: second["version_info"], response_nonce: second["nonce"] });
    const third = await stream.inbox.next();
    expect([...secretsOf(third).keys()]).toEqual(["ROOTCA"]);
    expect(domainsOf(secretsOf(third).get("ROOTCA"))).toEqual(["example.org"]);
  });

  test("StreamSecrets() follows the bundles, and ends with PermissionDenied when the identity is taken away", async () => {
    await open(identityRule("app"));
    const stream = new Conversation("StreamSecrets");
    stream.say({ resource_names: ["ALL"], node: ENVOY });
    expect(domainsOf(secretsOf(await stream.inbox.next()).get("ALL"))).toEqual(["example.org"]);
    endpoint.setForeign([partner()]);
    expect(domainsOf(secretsOf(await stream.inbox.next()).get("ALL"))).toEqual(["example.org", "partner.example"]);
    endpoint.setRules(identityRule("app", { exe: "/bin/none" }));
    expect((await statusOf(stream.inbox.next())).code).toBe(7);
    expect(endpoint.api.streams).toBe(0);
  });

  test("StreamSecrets() lets a client that asks without end pay for each request", async () => {
    const bounds = { connections: 8, calls: 8, burst: 6, callsPerSecond: 1 };
    const limits = { process: bounds, user: bounds, connections: 16 };
    await open(identityRule("app"), { limits, clock: new ManualClock() });
    const stream = new Conversation("StreamSecrets");
    stream.say({ resource_names: ["ROOTCA"] });
    await stream.inbox.next();
    for (let count = 0; count < 6; count++) stream.say({ resource_names: ["ROOTCA"], response_nonce: "stale" });
    expect((await statusOf(stream.inbox.next())).code).toBe(14);
  });
});

describe("DeltaSecrets", () => {
  test("DeltaSecrets() sends what is new alone, and names what is gone", async () => {
    await open(identityRule("app"));
    const stream = new Conversation("DeltaSecrets");
    stream.say({ node: ENVOY, resource_names_subscribe: ["default", "ROOTCA", "spiffe://partner.example"] });
    const first = await stream.inbox.next();
    expect([...secretsOf(first).keys()].sort()).toEqual(["ROOTCA", "default"]);
    expect(first["removed_resources"]).toEqual(["spiffe://partner.example"]);
    stream.say({ response_nonce: first["nonce"] });
    endpoint.setForeign([partner()]);
    const second = await stream.inbox.next();
    expect([...secretsOf(second).keys()]).toEqual(["spiffe://partner.example"]);
    endpoint.setForeign([]);
    const third = await stream.inbox.next();
    expect(third["removed_resources"]).toEqual(["spiffe://partner.example"]);
    expect(secretsOf(third).size).toBe(0);
    stream.say({ resource_names_unsubscribe: ["ROOTCA"], resource_names_subscribe: ["default"] });
    const fourth = await stream.inbox.next();
    expect([...secretsOf(fourth).keys()]).toEqual(["default"]);
    expect(leafOf(secretsOf(fourth).get("default")).serialNumber).not.toBe(
      leafOf(secretsOf(first).get("default")).serialNumber,
    );
  });

  test("DeltaSecrets() does not send again what a client kept from an earlier stream", async () => {
    await open(identityRule("app"));
    const before = new Conversation("DeltaSecrets");
    before.say({ node: ENVOY, resource_names_subscribe: ["ROOTCA"] });
    const [{ version }] = (await before.inbox.next())["resources"] as [{ version: string }];
    const after = new Conversation("DeltaSecrets");
    after.say({ node: ENVOY, resource_names_subscribe: ["ROOTCA"], initial_resource_versions: { ROOTCA: version } });
    const answer = await after.inbox.next();
    expect(secretsOf(answer).size).toBe(0);
    expect(answer["removed_resources"]).toEqual([]);
  });
});
