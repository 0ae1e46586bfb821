// The peer "bare Bun server": the least that a compiled Bun program with a listener is. Says when it listens.
const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
process.stdout.write(`listening on ${server.port}\n`);
