// OpenSSL as a peer that is no riprap node but holds an X509-SVID of the trust domain: as server, and as client.

import type { RiprapNode } from "../node.ts";
import { idOf, PORT } from "./rule.ts";
import { ALICE, checkCapture, during, type Scene, SECRET, serve, url } from "./scene.ts";

const PEER = "/srv/peer";

/** Its key is made by OpenSSL and stays where it was made; riprap sees the public half. */
async function makePeer(node: RiprapNode): Promise<void> {
  await node.vm.check(
    `mkdir -p ${PEER} && cd ${PEER} && openssl ecparam -genkey -name prime256v1 -noout -out key && openssl pkey -in key -pubout -out public`,
  );
  const words = ["svid", "x509", "--spiffe-id", idOf("peer/openssl"), "--public-key", `${PEER}/public`];
  const chain = (await node.riprap(...words)).stdout.match(/-----BEGIN[\s\S]*?-----END CERTIFICATE-----\n/g) ?? [];
  await node.vm.put(`${PEER}/leaf`, chain[0] ?? "");
  await node.vm.put(`${PEER}/intermediate`, chain.slice(1).join(""));
  await node.vm.put(`${PEER}/roots`, (await node.riprap("svid", "bundle")).stdout);
}

export async function opensslServer(scene: Scene): Promise<void> {
  await makePeer(scene.beta);
  const chain = `-key ${PEER}/key -cert ${PEER}/leaf -cert_chain ${PEER}/intermediate -CAfile ${PEER}/roots`;
  await scene.beta.vm.check(`cp /srv/web/page ${PEER}/page`);
  await serve(
    scene,
    "openssl",
    `sh -c 'cd ${PEER} && exec openssl s_server -accept ${PORT.openssl} ${chain} -Verify 3 -verify_return_error -tls1_3 -WWW'`,
  );
  const capture = await during(scene, async () => {
    const page = await scene.alpha.vm.run(
      ["curl", "-sS", "--http0.9", "--max-time", "60", url(scene, "openssl", "page")],
      { uid: ALICE },
    );
    scene.story.check(
      "curl gets a page from openssl s_server over its plain socket",
      page.stdout.includes(SECRET),
      page.stderr,
    );
  });
  checkCapture(scene, capture, PORT.openssl);
  const flow = (await scene.alpha.flowsOf({ own: idOf("client/curl"), peer: idOf("peer/openssl") })).at(-1);
  scene.story.check("riprap flows names the peer's SPIFFE ID", flow?.tls === "TLS 1.3", flow?.peer);
}

export async function opensslClient(scene: Scene): Promise<void> {
  await makePeer(scene.alpha);
  const chain = `-key ${PEER}/key -cert ${PEER}/leaf -cert_chain ${PEER}/intermediate -CAfile ${PEER}/roots`;
  const request = "GET /page HTTP/1.0\\r\\n\\r\\n";
  const capture = await during(scene, async () => {
    const command = `(printf '${request}'; sleep 3) | openssl s_client -connect ${scene.beta.vm.address}:${PORT.web} ${chain} -tls1_3 -verify_return_error -quiet`;
    const page = await scene.alpha.vm.run(command);
    scene.story.check(
      "openssl s_client gets the page from Python's http.server",
      page.stdout.includes(SECRET),
      page.stdout ? "" : page.stderr,
    );
  });
  checkCapture(scene, capture, PORT.web);
  const flow = (await scene.beta.flowsOf({ own: idOf("server/web"), peer: idOf("peer/openssl") })).at(-1);
  scene.story.check("riprap flows on beta names the peer's SPIFFE ID", flow?.tls === "TLS 1.3", flow?.peer);
}
