// The bundle endpoint of a node that an issuing node below an offline root has let in: it shows the whole path, which others verify by the root alone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type DetailedPeerCertificate } from "node:tls";
import type { EndpointView } from "../../../src/daemon/control/port.ts";
import { beside } from "../../fleet/beside.ts";
import { joinWith, Machine, until } from "../../fleet/machine.ts";
import { NATS_SERVER, type NatsPark, openPark } from "../../fleet/nats_server.ts";

const TEST_MS = 60_000;

describe.skipIf(NATS_SERVER === null)("an endpoint of a fleet's node (skipped without nats-server)", () => {
  let nats: NatsPark;
  let folder: string;
  const machines: Machine[] = [];

  beforeAll(() => {
    nats = openPark();
    folder = mkdtempSync(join(tmpdir(), "riprap-endpoint-"));
  });
  afterAll(async () => {
    for (const machine of machines) await machine.stop();
    await nats?.leave();
    rmSync(folder, { recursive: true, force: true });
  }, TEST_MS);

  async function shown(address: string): Promise<Uint8Array[]> {
    const [host = "", port = ""] = address.split(":");
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false });
    await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    const chain: Uint8Array[] = [];
    let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
    while (certificate !== undefined && !chain.some((der) => certificate?.raw.equals(der) === true)) {
      chain.push(new Uint8Array(certificate.raw));
      certificate = certificate.issuerCertificate;
    }
    socket.destroy();
    return chain;
  }

  test(
    "startEndpoints() serves leaf, node and issuing CA, a path that the first node takes for the endpoint's ID",
    async () => {
      const { url } = await nats.single();
      const settings = { natsServers: url, nodeAddresses: "10.0.0.1" };
      const first = new Machine(join(folder, "gate-1"), settings);
      const second = new Machine(join(folder, "gate-2"), { ...settings, bundleListen: "127.0.0.1:0" });
      machines.push(first, second);
      const done = async (on: Machine, ...argv: string[]) => expect(await on.cli(argv)).toMatchObject({ status: 0 });
      await done(first, "init", "town.example", "--node", "gate-1");
      await first.start();
      await until(first, ({ state }) => state === "connected");
      const [key, ask, answer] = ["root.key", "ask", "answer"].map((name) => join(folder, name)) as [
        string,
        string,
        string,
      ];
      await done(first, "root", "export", key);
      await done(first, "root", "request", "--issuing", "--out", ask);
      await done(new Machine(join(folder, "safe"), {}), "root", "sign", ask, "--key", key, "--out", answer);
      await done(first, "root", "install", answer);
      const { out: token } = await first.cli(["token", "create"]);
      expect(await joinWith(second, "gate-2", token)).toMatchObject({ status: 0 });
      await second.start();
      const [endpoint] = await second.json<EndpointView[]>("bundle", "endpoint");
      expect(endpoint).toMatchObject({ state: "open" });
      const chain = await shown(endpoint?.address ?? "");
      expect(chain.length).toBe(3);
      const judged = beside(join(first.folder, "state"), (authority) => authority.verifyPeerChain(chain));
      expect(judged.ok && judged.spiffeId.toString()).toBe("spiffe://town.example/riprap/bundle-endpoint");
      const without = beside(join(first.folder, "state"), (authority) => authority.verifyPeerChain(chain.slice(0, 2)));
      expect(without.ok ? "taken" : without.code).toBe("unknown_root");
    },
    TEST_MS,
  );
});
