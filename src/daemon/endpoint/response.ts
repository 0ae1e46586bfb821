// Writes a Response as the bytes of an HTTP/1.1 message (RFC 9112) after which the connection ends.

/** RFC 9110 section 15, as far as it is used here. */
const REASON: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Content Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

/** Headers of the applications here are constants of ours: none holds a line end. */
export async function writeResponse(
  response: Response,
  { hasBody }: { readonly hasBody: boolean },
): Promise<Uint8Array> {
  const body = new Uint8Array(await response.arrayBuffer());
  const headers = new Headers(response.headers);
  headers.set("content-length", String(body.length));
  headers.set("connection", "close");
  const lines = [`HTTP/1.1 ${response.status} ${REASON[response.status] ?? ""}`];
  headers.forEach((value, name) => void lines.push(`${name}: ${value}`));
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), hasBody ? body : Buffer.alloc(0)]);
}
