// The HTTP endpoints that the configuration asks for: opened, tried again when they cannot be, given fresh certificates, closed. None is open unless configured.

import type { NodeAuthority } from "../ca.ts";
import type { Clock } from "../clock.ts";
import { describeError, RiprapError } from "../error.ts";
import { SpiffeId } from "../spiffe_id.ts";
import type { DaemonConfig } from "./config.ts";
import type { EndpointView } from "./control/port.ts";
import {
  BUNDLE_PATH,
  CRL_PATH,
  createBundleApp,
  createHealthApp,
  createWebApp,
  type HealthSource,
  type PublishedTrust,
} from "./endpoint/app.ts";
import {
  type CertificateSource,
  type CurrentCertificate,
  fileCertificate,
  svidCertificate,
} from "./endpoint/certificate.ts";
import type { EndpointListener, ListenAddress } from "./endpoint/listener.ts";
import type { Log } from "./log.ts";

/** Below the trust domain: the daemon's own name towards other trust domains. */
export const ENDPOINT_ID_PATH = "/riprap/bundle-endpoint";
const RETRY_MS = 30_000;

export interface EndpointParts {
  readonly config: DaemonConfig;
  readonly authority: NodeAuthority;
  readonly trust: PublishedTrust;
  readonly health: HealthSource;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
}

export interface Endpoints {
  view(): readonly EndpointView[];
  close(): Promise<void>;
}

interface Plan {
  readonly name: string;
  readonly profile: EndpointView["profile"];
  readonly at: ListenAddress;
  readonly paths: readonly string[];
  /** Undefined: without TLS. */
  readonly source: CertificateSource | undefined;
  handle(request: Request): Response | Promise<Response>;
}

/** Never rejects for what an endpoint lacks: that one is tried again, and its view says why. */
export async function startEndpoints(parts: EndpointParts): Promise<Endpoints> {
  const stopping = new AbortController();
  const served = listPlans(parts).map((plan) => new ServedEndpoint(plan, parts));
  await Promise.all(served.map((endpoint) => endpoint.open()));
  const loops = served.map((endpoint) => endpoint.run(stopping.signal));
  for (const loop of loops) {
    loop.catch((thrown: unknown) => parts.log.error("a loop of the daemon ended", { error: describeError(thrown) }));
  }
  return {
    view: () => served.map((endpoint) => endpoint.view()),
    async close() {
      stopping.abort();
      await Promise.allSettled(loops);
      await Promise.allSettled(served.map((endpoint) => endpoint.close()));
    },
  };
}

/** The SPIFFE ID by which other trust domains know the bundle endpoint of this one. */
export function endpointId(trustDomain: string): SpiffeId {
  return SpiffeId.parse(`spiffe://${trustDomain}${ENDPOINT_ID_PATH}`);
}

function listPlans({ config, authority, trust, health, clock, random }: EndpointParts): Plan[] {
  const plans: Plan[] = [];
  const { bundleListen, webListen, healthListen, oidcIssuer } = config;
  if (bundleListen !== undefined) {
    const app = createBundleApp(trust);
    const source = svidCertificate({ authority, spiffeId: endpointId(authority.trustDomain), clock, random });
    const handle = (request: Request) => app.fetch(request);
    plans.push({
      name: "bundle endpoint",
      profile: "https_spiffe",
      at: bundleListen,
      paths: [BUNDLE_PATH],
      source,
      handle,
    });
  }
  if (webListen !== undefined) {
    const app = createWebApp(trust, { issuer: oidcIssuer });
    const source = fileCertificate({ certificatePath: config.webCertificate, keyPath: config.webKey, clock });
    const issuerPath = oidcIssuer === undefined ? undefined : new URL(oidcIssuer).pathname.replace(/\/$/, "");
    const paths = [
      BUNDLE_PATH,
      CRL_PATH,
      ...(issuerPath === undefined ? [] : [`${issuerPath}/.well-known/openid-configuration`, `${issuerPath}/keys`]),
    ];
    const handle = (request: Request) => app.fetch(request);
    plans.push({ name: "web endpoint", profile: "https_web", at: webListen, paths, source, handle });
  }
  if (healthListen !== undefined) {
    const app = createHealthApp(health);
    const handle = (request: Request) => app.fetch(request);
    const paths = ["/live", "/ready", "/metrics"];
    plans.push({ name: "health endpoint", profile: "http", at: healthListen, paths, source: undefined, handle });
  }
  return plans;
}

class ServedEndpoint {
  readonly #plan: Plan;
  readonly #parts: EndpointParts;
  #listener: EndpointListener | undefined;
  #certificate: CurrentCertificate | undefined;
  #reason: string | undefined;

  constructor(plan: Plan, parts: EndpointParts) {
    this.#plan = plan;
    this.#parts = parts;
  }

  view(): EndpointView {
    const { name, profile, at, paths } = this.#plan;
    const { host, port } = this.#listener?.address ?? at;
    const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
    const id = profile === "https_spiffe" ? { spiffeId: endpointId(this.#parts.authority.trustDomain).toString() } : {};
    return {
      ...{ name, profile, address, paths, ...id },
      state: this.#listener === undefined ? "failed" : "open",
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      ...(this.#certificate === undefined ? {} : { notAfter: showSecond(this.#certificate.notAfter) }),
      connections: this.#listener?.connections ?? 0,
    };
  }

  async open(): Promise<void> {
    const { name, at, source, handle } = this.#plan;
    const { clock, log } = this.#parts;
    try {
      this.#certificate = source?.load();
      const certificate = this.#certificate === undefined ? {} : { certificate: this.#certificate };
      // TLS is loaded where something is served by it: most nodes serve nothing.
      const { openListener } = await import("./endpoint/listener.ts");
      this.#listener = await openListener(at, { name, clock, log, ...certificate, handle });
      this.#reason = undefined;
      log.info("an endpoint is open", { name, host: this.#listener.address.host, port: this.#listener.address.port });
    } catch (thrown) {
      this.#failed(thrown, "an endpoint could not be opened");
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const { source } = this.#plan;
    while (!signal.aborted) {
      if (this.#listener === undefined) {
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
        if (!signal.aborted) await this.open();
      } else if (source === undefined || this.#certificate === undefined) {
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      } else {
        await source.changed(this.#certificate, signal);
        if (!signal.aborted) await this.#renew(source, signal);
      }
    }
  }

  /** The last good certificate stays where the new one cannot be used. */
  async #renew(source: CertificateSource, signal: AbortSignal): Promise<void> {
    try {
      const certificate = source.load();
      this.#listener?.renew(certificate);
      this.#certificate = certificate;
      this.#reason = undefined;
      this.#parts.log.info("an endpoint has a new certificate", {
        name: this.#plan.name,
        notAfter: certificate.notAfter,
      });
    } catch (thrown) {
      this.#failed(thrown, "an endpoint keeps its certificate");
      await this.#parts.clock.sleep(RETRY_MS, signal).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    await this.#listener?.close();
  }

  #failed(thrown: unknown, event: string): void {
    const error = describeError(thrown);
    if (this.#reason !== error) {
      const code = thrown instanceof RiprapError ? thrown.code : "internal";
      this.#parts.log.error(event, { name: this.#plan.name, code, error });
    }
    this.#reason = error;
  }
}

function showSecond(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
