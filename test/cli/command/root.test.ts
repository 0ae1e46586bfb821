// riprap root: the key leaves the node, what only it can give is signed on another machine, and the node issues on below its own CA.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  authorityIdOf,
  createEnrolmentRequest,
  initTrustDomain,
  publicKeysOf,
  readNodeChain,
} from "../../../src/ca.ts";
import { runCli } from "../../../src/cli.ts";
import { systemClock } from "../../../src/clock.ts";
import { parseConfig } from "../../../src/daemon/config.ts";
import { type Daemon, startDaemon } from "../../../src/daemon.ts";
import { encodeEnrolmentRequest, parseEnrolmentGrant } from "../../../src/federation/enrolment.ts";
import { fakeTerminal } from "../fake_terminal.ts";

/** The roster is looked over every two seconds. */
const TEST_MS = 30_000;
let folder: string;
let daemon: Daemon;
const file = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-root-"));
  mkdirSync(file("rules"));
  const text = [
    `stateDir: ${file("state")}`,
    `rulesDir: ${file("rules")}`,
    `controlSocket: ${file("control.sock")}`,
    "workloadApi: false",
    "keyCustody: file",
    "",
  ].join("\n");
  writeFileSync(file("riprap.yaml"), text);
  await initTrustDomain({ stateDir: file("state"), trustDomain: "edge.test", nodeName: "a", clock: systemClock });
  daemon = await startDaemon(parseConfig(text), {
    clock: systemClock,
    watch: false,
    environment: {},
    writeLog: () => undefined,
  });
});

afterAll(async () => {
  await daemon.stop();
  rmSync(folder, { recursive: true });
});

async function riprap(...words: string[]) {
  const terminal = fakeTerminal();
  const code = await runCli([...words, "--config", file("riprap.yaml")], terminal);
  return { code, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

const fleet = async () => JSON.parse((await riprap("fleet", "status", "--json")).out);

describe("root", () => {
  test("request refuses to ask for nothing, and for what is nothing", async () => {
    expect((await riprap("root", "request")).code).toBe(2);
    expect((await riprap("root", "request", "--operator", "ops", "--revoke", "all")).code).toBe(2);
  });

  test("sign without --key uses the root key of this node, and tells what it gives", async () => {
    expect(
      await riprap(
        "root",
        "request",
        "--operator",
        "ops",
        "--groups",
        "edge",
        "--kinds",
        "Service",
        "--out",
        file("ops.ask"),
      ),
    ).toMatchObject({ code: 0 });
    const signed = await riprap("root", "sign", file("ops.ask"), "--out", file("ops.answer"));
    expect(signed).toMatchObject({ code: 0 });
    expect(signed.err).toContain("operator ops sets Service for the groups edge");
    expect(await riprap("root", "install", file("ops.answer"))).toMatchObject({
      code: 0,
      out: "operator/ops stands in the fleet",
    });
  });

  test("export takes the key off the node, which then signs for no other node", async () => {
    expect(await riprap("root", "export", file("root.key"))).toMatchObject({ code: 0 });
    expect(existsSync(join(file("state"), "ca", "root.key"))).toBe(false);
    expect((await riprap("root", "export", file("root.key"))).code).toBe(1);
    const signed = await riprap("root", "sign", file("ops.ask"));
    expect([signed.code, signed.err.includes("its key is not on this node")]).toEqual([1, true]);
  });

  test(
    "sign with --key on any machine and install make the node an issuing one, and it admits nodes again",
    async () => {
      expect(await riprap("root", "request", "--issuing", "--out", file("a.ask"))).toMatchObject({ code: 0 });
      const signed = await riprap("root", "sign", file("a.ask"), "--key", file("root.key"), "--out", file("a.answer"));
      expect(signed).toMatchObject({ code: 0 });
      expect(signed.err).toContain("node a gets a CA that signs the intermediates of nodes");
      const installed = await riprap("root", "install", file("a.answer"));
      expect(installed).toMatchObject({ code: 0 });
      expect(installed.out).toContain("issuer/a stands in the fleet");
      const { nodes } = await fleet();
      const [authority = new Uint8Array()] = publicKeysOf(readNodeChain(file("state")));
      expect(nodes).toMatchObject([{ name: "a", isIssuer: true, state: "active" }]);
      // A peer believes the new intermediate once the roster names it, beside the one before.
      let { authorities } = nodes[0];
      for (let look = 0; look < 100 && authorities.length < 2; look += 1) {
        await Bun.sleep(100);
        ({ authorities } = (await fleet()).nodes[0]);
      }
      expect(authorities[0]).toBe(authorityIdOf(authority));

      const request = await createEnrolmentRequest({
        stateDir: file("other"),
        trustDomain: "edge.test",
        nodeName: "b",
        clock: systemClock,
      });
      writeFileSync(file("b.request"), encodeEnrolmentRequest(request));
      expect(await riprap("enrol", "sign", file("b.request"), "--out", file("b.grant"))).toMatchObject({ code: 0 });
      expect(parseEnrolmentGrant(readFileSync(file("b.grant"), "utf8")).chain.length).toBe(2);
    },
    TEST_MS,
  );

  test("request --end has the root end an issuing role, and what the node admitted stays", async () => {
    expect(await riprap("root", "request", "--end", "a", "--reason", "sold", "--out", file("end.ask"))).toMatchObject({
      code: 0,
    });
    const signed = await riprap(
      "root",
      "sign",
      file("end.ask"),
      "--key",
      file("root.key"),
      "--out",
      file("end.answer"),
    );
    expect(signed.err).toContain("issuer:a is revoked for ever (sold)");
    expect(await riprap("root", "install", file("end.answer"))).toMatchObject({ code: 0 });
    const { nodes, revocations } = await fleet();
    expect(revocations).toMatchObject([{ target: "issuer:a", reason: "sold" }]);
    expect(nodes.map(({ name, isIssuer }: { name: string; isIssuer: boolean }) => [name, isIssuer])).toContainEqual([
      "a",
      false,
    ]);
  });

  test("sign refuses a request of another trust domain, and one whose certificate request is another node's", async () => {
    const text = readFileSync(file("a.ask"), "utf8");
    writeFileSync(file("foreign.ask"), text.replace('"edge.test"', '"other.test"'));
    const foreign = await riprap("root", "sign", file("foreign.ask"), "--key", file("root.key"));
    expect([foreign.code, foreign.err.includes("this is the root of edge.test")]).toEqual([1, true]);
    writeFileSync(file("other.ask"), text.replace('"node": "a"', '"node": "b"'));
    const other = await riprap("root", "sign", file("other.ask"), "--key", file("root.key"));
    expect([other.code, other.err.includes("it is b that asks")]).toEqual([1, true]);
  });
});
