// HTTP/1.1 as the endpoints and their client read it: what is taken, what is refused, and a seeded fuzz over both.

import { describe, expect, test } from "bun:test";
import { RiprapError } from "../../../src/error.ts";
import { HEAD_BYTES_MAX } from "../../../src/federation/endpoint/http_head.ts";
import { readRequest } from "../../../src/federation/endpoint/http_request.ts";
import { type HttpResponse, ResponseReader } from "../../../src/federation/endpoint/http_response.ts";
import { draw, pick, random } from "../../random.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const GET = "GET /bundle HTTP/1.1\r\nHost: a.test\r\n";

describe("readRequest()", () => {
  test.each<[string, string]>([
    ["a plain GET", `${GET}\r\n`],
    ["what curl sends", `${GET}User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n`],
    ["an address and port", "GET /bundle HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n"],
    ["HTTP/1.0 without a host", "GET /bundle HTTP/1.0\r\n\r\n"],
    ["a length of nothing", `${GET}Content-Length: 0\r\n\r\n`],
    ["a value that is not ASCII", `${GET}X-Name: \xfc\r\n\r\n`],
  ])("readRequest() takes %s", (_, text) => {
    expect(readRequest(bytes(text))).toMatchObject({ state: "whole", request: { method: "GET", target: "/bundle" } });
  });

  test("readRequest() waits for the end of the head, and no longer than its bound", () => {
    for (const text of ["", "G", GET, `${GET}\r`]) expect(readRequest(bytes(text))).toEqual({ state: "more" });
    const long = bytes(`${GET}X: ${"a".repeat(HEAD_BYTES_MAX)}`);
    expect(readRequest(long)).toMatchObject({ state: "refused", status: 431 });
  });

  test.each<[string, number, string]>([
    ["another method", 405, "POST /bundle HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["HTTP/2", 505, "PRI * HTTP/2.0\r\n\r\n"],
    ["a TLS record", 400, "\x16\x03\x01\r\n\r\n"],
    ["no version", 400, "GET /bundle\r\n\r\n"],
    ["a blank too many", 400, "GET  /bundle HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a method in small letters", 400, "get /bundle HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a whole URL", 400, "GET http://a/bundle HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a target that is another host's", 400, "GET //evil/bundle HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["no host", 400, "GET /bundle HTTP/1.1\r\n\r\n"],
    ["two hosts", 400, `${GET}Host: b.test\r\n\r\n`],
    ["a host with a path", 400, "GET /bundle HTTP/1.1\r\nHost: a/../b\r\n\r\n"],
    ["a body", 413, `${GET}Content-Length: 5\r\n\r\nabcde`],
    ["a body in chunks", 413, `${GET}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ["two lengths", 400, `${GET}Content-Length: 0\r\nContent-Length: 5\r\n\r\n`],
    ["a length below nothing", 400, `${GET}Content-Length: -1\r\n\r\n`],
    ["a header that goes on", 400, `${GET}A: b\r\n c\r\n\r\n`],
    ["a header without a colon", 400, `${GET}Nonsense\r\n\r\n`],
    ["a blank before the colon", 400, `${GET}Accept : a\r\n\r\n`],
    ["a zero byte", 400, `${GET}A: \0\r\n\r\n`],
    ["a bare line feed", 400, `${GET}A: b\nHost: c\r\n\r\n`],
    ["65 headers", 431, `${GET}${"A: b\r\n".repeat(64)}\r\n`],
  ])("readRequest() refuses %s with %d", (_, status, text) => {
    expect(readRequest(bytes(text))).toMatchObject({ state: "refused", status });
  });
});

function readAll(parts: readonly string[], most = 1000): HttpResponse {
  const reader = new ResponseReader(most);
  for (const part of parts) {
    const whole = reader.push(bytes(part));
    if (whole !== undefined) return whole;
  }
  return reader.end();
}

const text = ({ body }: HttpResponse) => Buffer.from(body).toString("latin1");
const OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

describe("ResponseReader", () => {
  const wholes: [string, string][] = [
    ["by length", `${OK}Content-Length: 5\r\n\r\nhello`],
    ["up to the end", `${OK}\r\nhello`],
    ["in chunks", `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n`],
  ];

  test.each(wholes)("push() takes a body %s, whole or byte by byte", (_, response) => {
    expect(text(readAll([response]))).toBe("hello");
    expect(text(readAll([...response]))).toBe("hello");
    expect(readAll([response]).headers.get("content-type")).toEqual(["application/json"]);
  });

  test.each<[string, string]>([
    ["no HTTP", "SSH-2.0-x\r\n\r\n"],
    ["HTTP/2", "HTTP/2 200\r\n\r\n"],
    ["an interim response", "HTTP/1.1 100 Continue\r\n\r\n"],
    ["a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n"],
    ["two lengths", `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`],
    ["a length and chunks", `${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ["an unknown coding", `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`],
    ["a length that is too much", `${OK}Content-Length: 1001\r\n\r\n`],
    ["more than a body may have", `${OK}\r\n${"a".repeat(1001)}`],
    ["more than a body may have in chunks", `${OK}Transfer-Encoding: chunked\r\n\r\n3e9\r\n`],
    ["a chunk of no length", `${OK}Transfer-Encoding: chunked\r\n\r\n\r\n`],
    ["a chunk below nothing", `${OK}Transfer-Encoding: chunked\r\n\r\n-1\r\n`],
    ["a chunk line without an end", `${OK}Transfer-Encoding: chunked\r\n\r\n${"0".repeat(300)}`],
    ["a body that is cut short", `${OK}Content-Length: 5\r\n\r\nhell`],
    ["chunks that are cut short", `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhell`],
    ["nothing", ""],
  ])("push() and end() refuse %s", (_, response) => {
    expect(() => readAll([response])).toThrow(RiprapError);
  });

  test("push() and readRequest() never throw but RiprapError, hang or grow on what is made from good messages", () => {
    const next = random(0x0f0d);
    const seeds = [...wholes.map(([, response]) => response), `${GET}\r\n`];
    for (let round = 0; round < 20_000; round += 1) {
      const hostile = mutate(pick(next, seeds), next);
      expect(["more", "whole", "refused"]).toContain(readRequest(bytes(hostile)).state);
      try {
        const cut = draw(next, hostile.length + 1);
        expect(readAll([hostile.slice(0, cut), hostile.slice(cut)]).body.length).toBeLessThanOrEqual(1000);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });

  test("push() takes a million single bytes in linear time", () => {
    const size = 1 << 20;
    const reader = new ResponseReader(size);
    reader.push(bytes(`${OK}Content-Length: ${size}\r\n\r\n`));
    const one = Uint8Array.of(97);
    let whole: HttpResponse | undefined;
    for (let i = 0; i < size; i += 1) whole = reader.push(one);
    expect(whole?.body.length).toBe(size);
  });
});

function mutate(message: string, next: () => number): string {
  let result = message;
  for (let i = draw(next, 4) + 1; i > 0; i -= 1) {
    const at = draw(next, result.length + 1);
    const kind = draw(next, 4);
    const piece = pick(next, ["\r\n", "\n", "\0", ":", " ", "chunked", "9", "ff", "Content-Length: 3\r\n", "\xff"]);
    if (kind === 0) result = result.slice(0, at);
    else if (kind === 1) result = result.slice(0, at) + piece + result.slice(at);
    else if (kind === 2) result = result.slice(0, at) + String.fromCharCode(draw(next, 256)) + result.slice(at + 1);
    else result = result.slice(0, at) + result.slice(at + draw(next, 8));
  }
  return result;
}
