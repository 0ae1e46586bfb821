// Lines for a person, out of the views of the control API.

import { describe, expect, test } from "bun:test";
import { REASON } from "../../src/abi.ts";
import { describeFlow, describeProcesses } from "../../src/cli/describe.ts";
import { formatDuration, parseDuration } from "../../src/cli/duration.ts";
import { formatBytes, layOut, WIDTH, wrap } from "../../src/cli/grid.ts";
import { describeReason } from "../../src/cli/reason.ts";
import { suggest } from "../../src/cli/suggest.ts";
import { FLOW } from "../daemon/control/fake_port.ts";

describe("describeFlow", () => {
  test("describeFlow() shows both identities, the rule, TLS and the amounts in lines that fit", () => {
    expect(describeFlow(FLOW)).toEqual([
      "open    curl[512] 10.77.0.1:40312 → 10.77.0.2:8000  TLS 1.3 TLS_AES_128_GCM_SHA256 x25519",
      "        spiffe://edge.example/curl → spiffe://edge.example/web",
      "        by AccessPolicy/web#0 (enforce), 300 B sent, 3.8 MiB received, handshake 4.1 ms",
    ]);
  });

  test("describeFlow() of a refusal says why and how to ask what would allow it", () => {
    const { rule: _rule, peer: _peer, suite: _suite, group: _group, handshakeMs: _ms, ...rest } = FLOW;
    const denied = {
      ...rest,
      state: "denied" as const,
      tls: "plain",
      reason: "no_rule",
      error: "EACCES",
      bytesSent: 0,
      bytesReceived: 0,
    };
    expect(describeFlow(denied)).toEqual(
      [
        "denied  curl[512] 10.77.0.1:40312 → 10.77.0.2:8000  plain",
        "        spiffe://edge.example/curl → (no identity)",
        "        by no rule (enforce), no rule allows it, EACCES",
        "        why, and what would allow it: riprap explain --from spiffe://edge.example/curl --to 10.77.0.2:8000",
      ].flatMap((line) =>
        line.length > WIDTH ? wrap(line.trimStart(), WIDTH - 8).map((part) => `        ${part}`) : [line],
      ),
    );
  });

  test("describeReason() has a sentence for every reason of the kernel", () => {
    for (const name of Object.keys(REASON)) {
      const word = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      expect(describeReason(word, "denied")).not.toBe(word);
    }
    expect(describeReason("of_a_later_kernel", "denied")).toBe("of_a_later_kernel");
  });
});

describe("describeProcesses", () => {
  test("describeProcesses() shows how long the SVID still is valid, and its renewals", () => {
    const now = Date.UTC(2026, 0, 1);
    const svid = {
      serial: "01",
      notBefore: new Date(now).toISOString(),
      notAfter: new Date(now + 1_805_000).toISOString(),
      renewals: 2,
    };
    const view = {
      instance: "1",
      pid: 7,
      parentPid: 1,
      startedAt: svid.notBefore,
      name: "nginx",
      exe: "/usr/sbin/nginx",
      spiffeId: "spiffe://e.x/web",
      state: "ready" as const,
      svid,
    };
    expect(describeProcesses([view], { now, all: false })[1]).toContain("30m 5s, renewed 2×");
    expect(describeProcesses([view], { now: now + 3_600_000, all: false })[1]).toContain("ended");
  });
});

describe("values", () => {
  test.each([
    ["500ms", 500],
    ["30s", 30_000],
    ["5m", 300_000],
    ["24h", 86_400_000],
    ["365d", 31_536_000_000],
    ["0s", 0],
    ["30", undefined],
    ["-1s", undefined],
    ["1.5s", undefined],
    ["1h30m", undefined],
    ["", undefined],
    ["9999999999s", undefined],
  ])("parseDuration() reads %j as %p", (text, expected) => {
    expect(parseDuration(text)).toBe(expected);
  });

  test.each([
    [0, "0s"],
    [59_999, "59s"],
    [3_600_000, "1h"],
    [3_661_000, "1h 1m"],
    [90_061_000, "1d 1h"],
    [-5, "0s"],
  ])("formatDuration() writes %p as %p", (milliseconds, expected) => {
    expect(formatDuration(milliseconds)).toBe(expected);
  });

  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [67_108_864, "64.0 MiB"],
    [200 * 1024, "200 KiB"],
  ])("formatBytes() writes %p as %p", (bytes, expected) => {
    expect(formatBytes(bytes)).toBe(expected);
  });

  test.each([
    ["flwos", "flows"],
    ["stat", "status"],
    ["xyzzy", undefined],
    ["", undefined],
    ["x".repeat(10_000), undefined],
  ])("suggest() finds %j near to %p", (word, expected) => {
    expect(suggest(word, ["status", "flows", "ps", "kernel"])).toBe(expected);
  });

  test("layOut() wraps what is too wide and loses no character", () => {
    const long = "spiffe://edge.example/".padEnd(300, "abc/");
    const lines = layOut([{ title: "A" }, { title: "B" }], [[long, "short"]], 60);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
    expect(
      lines
        .slice(1)
        .map((line) => line.replace(/ +short$/, "").trim())
        .join(""),
    ).toBe(long);
    expect(wrap("", 10)).toEqual([""]);
  });
});
