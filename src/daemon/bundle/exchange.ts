// One HTTPS request to a bundle endpoint, with the checks of its profile, all of it bounded in size and time. The one place that connects to endpoints.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, connect, type PeerCertificate, type TLSSocket } from "node:tls";
import type { PeerAnswer } from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { type HttpResponse, ResponseReader } from "../../federation/endpoint/http_response.ts";
import type { BundleEndpoint } from "../../resource.ts";
import { BUNDLE_BYTES_MAX } from "../../trust_bundle.ts";
import { VERSION } from "../../version.ts";

/** From the connection to the last byte: whoever drips a bundle byte by byte has had his time. */
export const EXCHANGE_MS_MAX = 20_000;
/** As the TLS engine of the module takes. */
const CHAIN_MAX = 8;
/** Mozilla's "intermediate" (SPIFFE Federation section 5): TLS 1.2 with forward secrecy and AEAD, or TLS 1.3. */
export const TLS_CIPHERS = [
  ...["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"],
  ...["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"],
].join(":");

export interface ExchangeParts {
  readonly clock: Clock;
  /** PEM of the CA certificates by which servers of https_web are known. */
  readonly webRootsPath: string;
  /** Judges the chain of a server of https_spiffe by the bundle of its trust domain that is held now. */
  authenticate(chain: readonly Uint8Array[]): PeerAnswer;
}

export interface Answered {
  readonly response: HttpResponse;
  /** Who answered: a SPIFFE ID, or the SHA-256 of a certificate of the web. */
  readonly server: string;
}

/** RiprapError `endpoint_unreachable`, `endpoint_untrusted` or `response_invalid`. */
export async function exchangeHttps(
  url: URL,
  endpoint: BundleEndpoint,
  parts: ExchangeParts & { readonly signal: AbortSignal },
): Promise<Answered> {
  const done = new AbortController();
  const socket = connect(optionsOf(url, endpoint, parts.webRootsPath));
  const give = (reason: RiprapError) => void socket.destroy(reason);
  const stop = () => give(unreachable(url, "the daemon stops"));
  parts.signal.addEventListener("abort", stop, { once: true });
  const late = unreachable(url, `it took more than ${EXCHANGE_MS_MAX / 1000} s`);
  parts.clock.sleep(EXCHANGE_MS_MAX, done.signal).then(
    () => give(late),
    () => undefined,
  );
  if (parts.signal.aborted) stop();
  try {
    return await converse(socket, { url, endpoint, parts });
  } catch (thrown) {
    throw thrown instanceof RiprapError ? thrown : unreachable(url, describeError(thrown), thrown);
  } finally {
    done.abort();
    parts.signal.removeEventListener("abort", stop);
    socket.destroy();
  }
}

function optionsOf(url: URL, endpoint: BundleEndpoint, webRootsPath: string): ConnectionOptions {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isWeb = endpoint.profile === "https_web";
  return {
    host,
    port: url.port === "" ? 443 : Number(url.port),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    minVersion: "TLSv1.2",
    ciphers: TLS_CIPHERS,
    ALPNProtocols: ["http/1.1"],
    ...(isWeb ? { ca: readWebRoots(webRootsPath) } : {}),
    // An X509-SVID has no host name and no root of the web: converse() judges it before a byte is sent.
    rejectUnauthorized: isWeb,
  };
}

function readWebRoots(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const remedy = "install ca-certificates, or set webRoots";
    const message = `Cannot read the CA certificates of the web ${path}: ${describeError(cause)}; ${remedy}`;
    throw new RiprapError("endpoint_untrusted", message, { cause });
  }
}

interface Conversation {
  readonly url: URL;
  readonly endpoint: BundleEndpoint;
  readonly parts: ExchangeParts;
}

function converse(socket: TLSSocket, { url, endpoint, parts }: Conversation): Promise<Answered> {
  const reader = new ResponseReader(BUNDLE_BYTES_MAX);
  let server: string | undefined;
  return new Promise((resolve, reject) => {
    const attempt = (work: () => HttpResponse | undefined) => {
      try {
        const response = work();
        if (response !== undefined && server !== undefined) resolve({ response, server });
      } catch (thrown) {
        reject(thrown);
      }
    };
    socket.on("error", reject);
    socket.on("close", () => reject(unreachable(url, "the connection was closed")));
    socket.on("secureConnect", () =>
      attempt(() => {
        server = requireServer(socket, { url, endpoint, parts });
        socket.write(requestFor(url));
        return undefined;
      }),
    );
    // What comes before the server is known is not read.
    socket.on("data", (bytes: Uint8Array) => attempt(() => (server === undefined ? undefined : reader.push(bytes))));
    socket.on("end", () => attempt(() => (server === undefined ? undefined : reader.end())));
  });
}

/** Its name for the log. RiprapError `endpoint_untrusted`. */
function requireServer(socket: TLSSocket, { url, endpoint, parts }: Conversation): string {
  const certificate = socket.getPeerCertificate(true);
  if (endpoint.profile === "https_web") {
    // Section 5.2.1.3 asks for a name in the certificate's alternative names; some libraries take the subject's instead.
    if (socket.authorized && certificate.subjectaltname !== undefined) return `sha256:${certificate.fingerprint256}`;
    throw untrusted(url, "its certificate has no alternative name, or no root of the system has signed it");
  }
  const answer = parts.authenticate(chainOf(certificate));
  if (!answer.ok) throw untrusted(url, answer.message);
  if (answer.spiffeId.equals(endpoint.spiffeId)) return answer.spiffeId.toString();
  throw untrusted(url, `it is ${answer.spiffeId}, and ${endpoint.spiffeId} is configured`);
}

/** DER, leaf first, as the server sent it. */
function chainOf(leaf: Partial<PeerCertificate> & { readonly issuerCertificate?: PeerCertificate }): Uint8Array[] {
  const chain: Uint8Array[] = [];
  const seen = new Set<string>();
  for (
    let next: typeof leaf | undefined = leaf;
    next?.raw !== undefined && chain.length <= CHAIN_MAX;
    next = next.issuerCertificate
  ) {
    const key = next.raw.toString("base64");
    if (seen.has(key)) break;
    seen.add(key);
    chain.push(Uint8Array.from(next.raw));
  }
  return chain;
}

function requestFor(url: URL): string {
  const lines = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    `User-Agent: riprap/${VERSION}`,
    "Accept: application/json",
    "Connection: close",
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function unreachable(url: URL, fact: string, cause?: unknown): RiprapError {
  return new RiprapError("endpoint_unreachable", `Cannot reach the bundle endpoint ${url.href}: ${fact}`, { cause });
}

function untrusted(url: URL, fact: string): RiprapError {
  return new RiprapError("endpoint_untrusted", `Cannot trust the server of ${url.href}: ${fact}`);
}
