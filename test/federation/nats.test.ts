// What the wire does with a server that is none: the tries that it gives up leave nothing open.

import { expect, test } from "bun:test";
import { systemClock } from "../../src/clock.ts";
import { openNats } from "../../src/federation/nats.ts";
import type { Transport } from "../../src/federation/transport.ts";

function reason(transport: Transport, wanted: string): Promise<void> {
  return new Promise((resolve) => {
    transport.onState((state) => {
      if (state.phase === "connecting" && state.reason === wanted) resolve();
    });
  });
}

test("openNats() ends the connection of each try that a silent server leaves without a word", async () => {
  const open = new Set<unknown>();
  let taken = 0;
  const closed = Promise.withResolvers<void>();
  const silent = Bun.listen({
    ...{ hostname: "127.0.0.1", port: 0 },
    socket: {
      open(socket) {
        open.add(socket);
        taken += 1;
      },
      data() {},
      close(socket) {
        open.delete(socket);
        closed.resolve();
      },
    },
  });
  const servers = [`nats://127.0.0.1:${silent.port}`];
  const transport = openNats({ servers, name: "test", clock: systemClock, random: Math.random });
  try {
    await reason(transport, "no server answers in time");
    await closed.promise;
    await transport.close();
    expect([taken > 0, open.size]).toEqual([true, 0]);
  } finally {
    silent.stop(true);
  }
});

test("close() ends well while a connection is being made", async () => {
  const asked = Promise.withResolvers<void>();
  const closing = Promise.withResolvers<void>();
  const slow = Bun.listen({
    ...{ hostname: "127.0.0.1", port: 0 },
    socket: {
      async open(socket) {
        asked.resolve();
        await closing.promise;
        socket.write('INFO {"server_id":"s","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}\r\n');
      },
      data(socket, bytes) {
        if (bytes.includes("PING")) socket.write("PONG\r\n");
      },
    },
  });
  const servers = [`nats://127.0.0.1:${slow.port}`];
  const transport = openNats({ servers, name: "test", clock: systemClock, random: Math.random });
  try {
    transport.subscribe("a.subject", () => undefined);
    await asked.promise;
    const closed = transport.close();
    closing.resolve();
    await closed;
    expect(transport.state).toEqual({ phase: "closed" });
  } finally {
    slow.stop(true);
  }
});
