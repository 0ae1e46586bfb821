// The peer "a pair of haproxy mTLS proxies": plain in, mutual TLS 1.3 between the two, plain out, all in one guest.

export interface HaproxyPorts {
  /** Where the client connects in plain TCP. */
  readonly entry: number;
  /** Between the two proxies. */
  readonly tls: number;
  /** Where the plain server listens. */
  readonly server: number;
}

/** Shell that makes a CA and two P-256 leaves under `dir`: the same kind of chain as an SVID's. */
export function certificateScript(dir: string): string {
  const leaf = (name: string) => `
openssl ecparam -name prime256v1 -genkey -noout -out ${name}.key
openssl req -new -key ${name}.key -subj /CN=${name} -out ${name}.csr
openssl x509 -req -in ${name}.csr -CA sub.crt -CAkey sub.key -CAcreateserial -days 2 -out ${name}.crt 2>/dev/null
cat ${name}.crt sub.crt ${name}.key > ${name}.pem`;
  return `set -e
mkdir -p ${dir}; cd ${dir}
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=root -days 2 -out ca.crt
openssl ecparam -name prime256v1 -genkey -noout -out sub.key
openssl req -new -key sub.key -subj /CN=sub -out sub.csr
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\\n' > sub.ext
openssl x509 -req -in sub.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile sub.ext -out sub.crt 2>/dev/null
${leaf("client")}
${leaf("server")}`;
}

/** Configuration of both proxies in one process; `resume` says whether the client proxy may reuse TLS sessions. */
export function haproxyConfig(dir: string, ports: HaproxyPorts, resume: boolean): string {
  const reuse = resume ? "" : " no-ssl-reuse";
  return `global
  nbthread 2
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend entry
  bind 127.0.0.1:${ports.entry}
  default_backend tls_out
backend tls_out
  server peer 127.0.0.1:${ports.tls} ssl crt ${dir}/client.pem ca-file ${dir}/ca.crt verify required ssl-min-ver TLSv1.3${reuse}
frontend tls_in
  bind 127.0.0.1:${ports.tls} ssl crt ${dir}/server.pem ca-file ${dir}/ca.crt verify required ssl-min-ver TLSv1.3
  default_backend plain_out
backend plain_out
  server app 127.0.0.1:${ports.server}
`;
}
