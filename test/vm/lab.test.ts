// The laboratory itself, with no riprap in it: what it says about a VM and about the wire can be believed.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { openSegment, type Segment } from "./lab/segment.ts";
import { bootVm, type Vm } from "./lab.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PAYLOAD = "a page that crosses the segment in the clear";

for (const kernel of KERNEL_LINES) {
  describeVm(`bootVm() on kernel ${kernel}`, () => {
    let segment: Segment;
    let client: Vm;
    let server: Vm;

    beforeAll(async () => {
      segment = await openSegment();
      [client, server] = await Promise.all([
        bootVm({ kernel, name: "client", segment }),
        bootVm({ kernel, name: "server", segment, files: { "/srv/page": PAYLOAD } }),
      ]);
    }, BOOT_TEST_MS);

    afterAll(async () => {
      await Promise.all([client?.stop(), server?.stop()]);
      await segment?.close();
    }, VM_TEST_MS);

    test("runs the kernel it was asked for", async () => {
      const release = (await client.check(["uname", "-r"])).trim();
      expect(release.startsWith(`${kernel}.`) || release.endsWith(`-riprap-${kernel}`)).toBe(true);
    });

    test(
      "run() gives status, both streams and the signal that ended a program",
      async () => {
        const spoken = await client.run("echo out; echo err >&2; exit 3");
        expect(spoken).toMatchObject({ code: 3, stdout: "out\n", stderr: "err\n" });
        expect((await client.run("kill -9 $$")).code).toBe(128 + 9);
        expect((await client.run(["/no/such/program"])).code).toBe(127);
        expect((await client.run(["id", "-u"], { uid: 1000 })).stdout).toBe("1000\n");
        expect(client.run(["sleep", "60"], { timeout: 500 })).rejects.toThrow("did not end within 500 ms");
      },
      VM_TEST_MS,
    );

    test(
      "put() and get() keep every byte when programs run beside them",
      async () => {
        const bytes = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff));
        const beside = client.spawn("while :; do echo busy; sleep 0.01; done");
        await client.put("/tmp/copy", bytes);
        expect(Buffer.from(await client.get("/tmp/copy")).equals(bytes)).toBe(true);
        beside.kill("KILL", { group: true });
        expect(await beside.exited).toBe(128 + 9);
      },
      VM_TEST_MS,
    );

    test(
      "capture() holds the payload, the SYN and no TLS when curl fetches a page in the clear",
      async () => {
        const web = server.spawn(["python3", "-m", "http.server", "8000", "--directory", "/srv"]);
        await server.waitFor("ss -Hltn sport = :8000 | grep -q .");
        for (const address of [server.address, `[${server.address6}]`])
          expect(
            await client.check(["curl", "-sS", "--max-time", "20", `http://${address}:8000/page`]).catch(String),
          ).toContain(
            address?.startsWith("[") ? "Couldn't connect" : PAYLOAD, // http.server listens on IPv4 alone
          );
        web.kill();
        for (const vm of [client, server]) {
          const seen = await vm.capture();
          expect(seen.frames.length).toBeGreaterThan(0);
          expect(seen.containsPayload(PAYLOAD)).toBe(true);
          expect(seen.containsPayload("a page that nobody sent")).toBe(false);
          expect(seen.synsTo(8000, server.address)).toHaveLength(1);
          expect(seen.synsTo(8000, server.address6)).toHaveLength(1);
          expect(seen.streams({ port: 8000 }).some((stream) => stream.tlsRecords())).toBe(false);
        }
      },
      VM_TEST_MS,
    );

    test(
      "capture() names a TLS 1.3 handshake and holds no payload when openssl serves the page",
      async () => {
        const before = await client.capture();
        await server.check(
          "cd /srv && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out certificate -subj /CN=server -days 1",
        );
        const web = server.spawn(
          "cd /srv && exec openssl s_server -accept 4433 -key key -cert certificate -WWW -tls1_3",
        );
        await server.waitFor("ss -Hltn sport = :4433 | grep -q .");
        const page = await client.check(["curl", "-skS", "--max-time", "30", `https://${server.address}:4433/page`]);
        web.kill();
        expect(page).toContain(PAYLOAD);
        const seen = (await client.capture()).since(before);
        const streams = seen.streams({ port: 4433 });
        expect(seen.containsPayload(PAYLOAD)).toBe(false);
        expect(streams.filter((stream) => stream.isClientHello())).toHaveLength(1);
        expect(streams.filter((stream) => stream.isTls13ServerHello())).toHaveLength(1);
      },
      VM_TEST_MS,
    );
  });
}

describeVm("Vm.stop()", () => {
  test(
    "throws with the kernel's words when the kernel log holds a fault",
    async () => {
      const vm = await bootVm({ kernel: "6.12", memory: 512 });
      await vm.check("echo 'WARNING: CPU: 0 PID: 1 at test' >/dev/kmsg");
      expect(vm.stop()).rejects.toThrow("WARNING: CPU: 0 PID: 1 at test");
    },
    BOOT_TEST_MS,
  );

  test(
    "throws and run() rejects when the kernel panics",
    async () => {
      const vm = await bootVm({ kernel: "6.12", memory: 512 });
      expect(vm.run("echo c >/proc/sysrq-trigger; sleep 60")).rejects.toThrow("ended");
      await expect(vm.stop()).rejects.toThrow(/panic/);
    },
    BOOT_TEST_MS,
  );
});
