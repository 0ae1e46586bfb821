// The one importer of @peculiar/x509: builds the certificates of CAs and the requests for them, and reads such requests. SVIDs are built elsewhere.
import "./reflect.ts";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import type { TrustDomain } from "../spiffe_id.ts";
import { OID } from "./certificate.ts";
import { ascii, der, readDer, TAG } from "./der.ts";
import { keyIdentifier, keyOfPoint, P256_SPKI_PREFIX } from "./key.ts";
import type { CaKey } from "./key_store.ts";

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export interface CaCertificateRequest {
  readonly trustDomain: TrustDomain;
  /** The common name: for a root a word, for an intermediate the node's name. */
  readonly commonName: string;
  readonly serial: string;
  readonly point: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  /** undefined: a root, without a bound on the path. */
  readonly pathLength?: number;
  /** Permit only the trust domain's host in URIs below. */
  readonly constrain: boolean;
  readonly issuer: {
    readonly commonName: string;
    readonly key: CaKey;
    /** DER of its name and its key identifier, where another CA chose them. */
    readonly subject?: Uint8Array;
    readonly keyId?: Uint8Array;
  };
}

/** A signing certificate of the SPIFFE profile (X509-SVID sections 2 to 4, appendix A), signed by the issuer's key. */
export async function buildCaCertificate(request: CaCertificateRequest): Promise<Uint8Array> {
  const { issuer } = request;
  const extensions: Extension[] = [
    new BasicConstraintsExtension(true, request.pathLength, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    new SubjectKeyIdentifierExtension(hex(keyIdentifier(request.point)), false),
    new AuthorityKeyIdentifierExtension(hex(issuer.keyId ?? keyIdentifier(issuer.key.publicKey)), false),
    new SubjectAlternativeNameExtension([{ type: "url", value: request.trustDomain.id.toString() }], false),
  ];
  if (request.constrain) extensions.push(uriConstraint(request.trustDomain));
  const certificate = await X509CertificateGenerator.create({
    serialNumber: request.serial,
    subject: caName(request.commonName),
    issuer: issuer.subject === undefined ? caName(issuer.commonName) : new Name(Uint8Array.from(issuer.subject)),
    notBefore: new Date(request.notBefore),
    notAfter: new Date(request.notAfter),
    signingAlgorithm: ECDSA,
    publicKey: await importPoint(request.point),
    signingKey: (await passingPair()).privateKey,
    extensions,
  });
  return signedBy(request.issuer.key, certificate.rawData);
}

/** PKCS#10 request for a node's intermediate: the node's name and the trust domain, signed by the key it asks for. */
export function buildRequest(trustDomain: TrustDomain, nodeName: string, key: CaKey): Promise<Uint8Array> {
  return requestWith(trustDomain, { commonName: nodeName, key, extensions: [] });
}

/** The same for a CA outside of riprap, with all that its certificate is to have: it may copy what the request asks for. */
export function buildUpstreamRequest(
  trustDomain: TrustDomain,
  asked: { commonName: string; key: CaKey; pathLength: number },
): Promise<Uint8Array> {
  const extensions = [
    new BasicConstraintsExtension(true, asked.pathLength, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    uriConstraint(trustDomain),
  ];
  return requestWith(trustDomain, { ...asked, extensions });
}

async function requestWith(
  trustDomain: TrustDomain,
  { commonName, key, extensions }: { commonName: string; key: CaKey; extensions: readonly Extension[] },
): Promise<Uint8Array> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: caName(commonName),
    keys: { privateKey: (await passingPair()).privateKey, publicKey: await importPoint(key.publicKey) },
    signingAlgorithm: ECDSA,
    extensions: [
      new SubjectAlternativeNameExtension([{ type: "url", value: trustDomain.id.toString() }], false),
      ...extensions,
    ],
  });
  return signedBy(key, request.rawData);
}

export interface ReadRequest {
  readonly point: Uint8Array;
  readonly commonName: string | undefined;
  readonly uris: readonly string[];
}

/** The fields of a PKCS#10 request whose signature is by the P-256 key it holds; undefined for anything else. */
export async function readRequest(bytes: Uint8Array): Promise<ReadRequest | undefined> {
  try {
    const request = new Pkcs10CertificateRequest(Uint8Array.from(bytes));
    const spki = Buffer.from(request.publicKey.rawData);
    const point = Uint8Array.from(spki.subarray(P256_SPKI_PREFIX.length));
    if (!spki.subarray(0, P256_SPKI_PREFIX.length).equals(P256_SPKI_PREFIX) || keyOfPoint(point) === undefined)
      return undefined;
    if (request.rawData.byteLength !== bytes.length || !(await request.verify())) return undefined;
    const names = request.getExtension(OID.subjectAltName);
    const items = names instanceof SubjectAlternativeNameExtension ? names.names.items : [];
    return {
      point,
      commonName: request.subjectName.getField("CN")[0],
      uris: items.filter((item) => item.type === "url").map((item) => item.value),
    };
  } catch {
    // Whatever the parser stumbled over, the answer is the same: not a request that we can use.
    return undefined;
  }
}

function caName(commonName: string): { [type: string]: string[] }[] {
  return [{ O: ["riprap"] }, { CN: [commonName] }];
}

/** RFC 5280 section 4.2.1.10: critical, permittedSubtrees with the one host. */
function uriConstraint(trustDomain: TrustDomain): Extension {
  const subtree = der(TAG.sequence, der(0x86, ascii(trustDomain.name)));
  return new Extension(OID.nameConstraints, true, Uint8Array.from(der(TAG.sequence, der(0xa0, subtree))));
}

function importPoint(point: Uint8Array): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", Uint8Array.from(point), ECDSA, true, ["verify"]);
}

/** The library signs with a WebCrypto key, and a CA key need not be in this process: it gets one of no worth, and the signature is made anew. */
function passingPair(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(ECDSA, false, ["sign", "verify"]);
}

/** The same to-be-signed part and algorithm, signed by the CA key (RFC 5280 section 4.1, RFC 2986 section 4.2). */
function signedBy(key: CaKey, signed: ArrayBuffer): Uint8Array {
  const parts = readDer(new Uint8Array(signed), TAG.sequence);
  const content = parts.next(TAG.sequence).bytes;
  const algorithm = parts.next(TAG.sequence).bytes;
  return der(TAG.sequence, content, algorithm, der(TAG.bitString, Uint8Array.of(0), key.sign(content)));
}
