// PEM (RFC 7468) as bytes: a key that was text could not be wiped.

const ALPHABET = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const LINE = 64;

/** One block for each, in their order. */
export function pemOfCertificates(ders: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    ders.flatMap((der) => [
      Buffer.from("-----BEGIN CERTIFICATE-----\n"),
      base64Lines(der),
      Buffer.from("-----END CERTIFICATE-----\n"),
    ]),
  );
}

/** To be wiped after use; what lay between is wiped here. */
export function pemOfKey(pkcs8: Uint8Array): Uint8Array {
  const body = base64Lines(pkcs8);
  const pem = Buffer.concat([
    Buffer.from("-----BEGIN PRIVATE KEY-----\n"),
    body,
    Buffer.from("-----END PRIVATE KEY-----\n"),
  ]);
  body.fill(0);
  return pem;
}

function base64Lines(bytes: Uint8Array): Uint8Array {
  const length = 4 * Math.ceil(bytes.length / 3);
  const text = new Uint8Array(length + Math.ceil(length / LINE));
  let at = 0;
  let column = 0;
  for (let index = 0; index < bytes.length; index += 3) {
    const left = bytes.length - index;
    const group = ((bytes[index] ?? 0) << 16) | ((bytes[index + 1] ?? 0) << 8) | (bytes[index + 2] ?? 0);
    text[at++] = ALPHABET[group >> 18] as number;
    text[at++] = ALPHABET[(group >> 12) & 63] as number;
    text[at++] = left > 1 ? (ALPHABET[(group >> 6) & 63] as number) : EQUALS;
    text[at++] = left > 2 ? (ALPHABET[group & 63] as number) : EQUALS;
    column += 4;
    if (column < LINE && left > 3) continue;
    text[at++] = NEWLINE;
    column = 0;
  }
  return text.subarray(0, at);
}
