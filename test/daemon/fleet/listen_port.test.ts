import { describe, expect, test } from "bun:test";
import { listListening, parseListening } from "../../../src/daemon/fleet/listen_port.ts";

const INODES = new Set(["77"]);
const line = (local: string, state = "0A", inode = "77") =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0 100 0 0 10 0`;

describe("listListening()", () => {
  test("finds the port of this process's own listener", () => {
    const listener = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
    expect(listListening(process.pid)).toContainEqual({ address: undefined, port: listener.port });
    listener.stop(true);
    expect(listListening(process.pid).map(({ port }) => port)).not.toContain(listener.port);
  });

  test("finds nothing of a process that is not there", () => {
    expect(listListening(4_194_303)).toEqual([]);
  });
});

describe("parseListening()", () => {
  test("reads both families, and any address as none", () => {
    expect(parseListening(line("0500000A:1F90"), INODES)).toEqual({ address: "10.0.0.5", port: 8080 });
    expect(parseListening(line("00000000:0050"), INODES)).toEqual({ address: undefined, port: 80 });
    expect(parseListening(line("000077FD000000000000000002000000:01BB"), INODES)).toEqual({
      address: "fd77::2",
      port: 443,
    });
    expect(parseListening(line("0000000000000000FFFF00000500000A:0050"), INODES)?.address).toBe("10.0.0.5");
  });

  test.each([
    ["a connection", line("0500000A:1F90", "01")],
    ["a socket of another process", line("0500000A:1F90", "0A", "78")],
    ["a loopback address", line("0100007F:1F90")],
    ["what is no line of that file", "garbage"],
    ["an empty line", ""],
  ])("leaves out %s", (_, text) => {
    expect(parseListening(text, INODES)).toBeUndefined();
  });
});
