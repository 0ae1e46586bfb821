// Programs of Debian that know nothing of riprap: curl and Python, nginx and sendfile, redis, PostgreSQL.
import { idOf, PORT } from "./rule.ts";
import { ALICE, BLOB_BYTES, checkCapture, checkFlows, during, type Scene, SECRET, serve, url } from "./scene.ts";

export async function curlAndPython(scene: Scene): Promise<void> {
  await serve(scene, "web", `python3 -m http.server ${PORT.web} --directory /srv/web`);
  const capture = await during(scene, async () => {
    const page = await scene.alpha.vm.run(["curl", "-sS", "--max-time", "60", url(scene, "web", "page")], {
      uid: ALICE,
    });
    scene.story.check("the page arrives", page.stdout.trim() === SECRET, page.stdout || page.stderr);
  });
  checkCapture(scene, capture, PORT.web);
  await checkFlows(scene, idOf("client/curl"), idOf("server/web"));
}

export async function nginxAndSendfile(scene: Scene): Promise<void> {
  await scene.beta.vm.put("/etc/nginx/demo.conf", NGINX);
  await serve(scene, "nginx", "nginx -c /etc/nginx/demo.conf -g 'daemon off;'");
  const capture = await during(scene, async () => {
    const [there, here] = await Promise.all([
      scene.beta.vm.check("sha256sum </srv/web/blob"),
      scene.alpha.vm.run(`curl -sS --max-time 120 ${url(scene, "nginx", "blob")} | sha256sum`, {
        uid: ALICE,
        timeout: 150_000,
      }),
    ]);
    scene.story.check(
      `the digest of ${BLOB_BYTES >> 20} MiB by sendfile is equal`,
      here.stdout === there,
      here.stdout || here.stderr,
    );
  });
  checkCapture(scene, capture, PORT.nginx);
  await checkFlows(scene, idOf("client/curl"), idOf("server/nginx"));
}

export async function redis(scene: Scene): Promise<void> {
  await serve(
    scene,
    "redis",
    `redis-server --port ${PORT.redis} --bind 0.0.0.0 --protected-mode no --save '' --dir /tmp`,
  );
  const capture = await during(scene, async () => {
    const command = `redis-benchmark -h ${scene.beta.vm.address} -p ${PORT.redis} -n 500 -c 5 -t set,get -d 64 --csv`;
    const result = await scene.alpha.vm.run(command, { uid: ALICE, timeout: 120_000 });
    const measured = /^"GET","([\d.]+)"/m.exec(result.stdout)?.[1];
    scene.story.check(
      "redis-benchmark sets and gets",
      measured !== undefined,
      measured ? `${measured} GET/s` : result.stderr,
    );
  });
  checkCapture(scene, capture, PORT.redis);
  await checkFlows(scene, idOf("client/redis-benchmark"), idOf("server/redis"));
}

export async function postgres(scene: Scene): Promise<void> {
  const data = "/var/lib/postgresql/data";
  await scene.beta.vm.check(
    `mkdir -p ${data} /run/postgresql && chown -R postgres: /var/lib/postgresql /run/postgresql && ` +
      `setpriv --reuid postgres --regid postgres --clear-groups initdb -D ${data} -A trust --no-sync >/var/log/initdb.log 2>&1 && ` +
      `echo 'host all all 0.0.0.0/0 trust' >>${data}/pg_hba.conf`,
    { timeout: 120_000 },
  );
  await serve(
    scene,
    "postgres",
    `setpriv --reuid postgres --regid postgres --clear-groups postgres -D ${data} -h 0.0.0.0 -c fsync=off`,
  );
  const capture = await during(scene, async () => {
    const query = `select '${SECRET}' || ', ' || count(*) from generate_series(1, 20000)`;
    const command = ["psql", "-h", scene.beta.vm.address ?? "", "-U", "postgres", "-tAc", query];
    const result = await scene.alpha.vm.run(command, { uid: ALICE, timeout: 120_000 });
    scene.story.check(
      "psql gets its rows",
      result.stdout.trim() === `${SECRET}, 20000`,
      result.stdout || result.stderr,
    );
  });
  checkCapture(scene, capture, PORT.postgres);
  await checkFlows(scene, idOf("client/psql"), idOf("server/postgres"));
}

const NGINX = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 128; }
http {
  access_log off;
  sendfile on;
  server {
    listen ${PORT.nginx};
    root /srv/web;
    location /slow/ { alias /srv/web/; limit_rate 1000k; }
    location /half/ { alias /srv/web/; limit_rate 3000k; }
  }
}
`;
