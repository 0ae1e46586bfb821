// Reflection and health on the Workload API's socket, read by protobufjs and asked by a client that has only bytes.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Client, type ClientDuplexStream, type ClientReadableStream, credentials } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer, loadSync } from "@grpc/proto-loader";
import { encodeFileDescriptor, symbolsOf } from "../../../src/daemon/workload_api/descriptor.ts";
import { concat, delimited, lastOf, readFields, readText } from "../../../src/daemon/workload_api/protobuf.ts";
import { SCHEMAS } from "../../../src/daemon/workload_api/schema.ts";
import { scratchDirectories } from "../../scratch.ts";
import { type Endpoint, identityRule, openEndpoint } from "./endpoint.ts";

const scratch = scratchDirectories();
const same = (bytes: Buffer) => bytes;

let endpoint: Endpoint;
let client: Client;

beforeEach(async () => {
  // A rule that selects nobody here: none of this asks who calls.
  endpoint = await openEndpoint(scratch(), identityRule("app", { exe: "/bin/none" }));
  client = new Client(`unix://${endpoint.path}`, credentials.createInsecure());
});

afterEach(async () => {
  client.close();
  await endpoint.close();
});

/** The answers to these requests, in their order; ends when the server does. */
async function ask(version: string, requests: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
  const call: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(path, same, same);
  for (const request of requests) call.write(Buffer.from(request));
  call.end();
  const answers: Uint8Array[] = [];
  for await (const answer of call) answers.push(answer);
  return answers;
}

const filesOf = (answer: Uint8Array): Uint8Array[] =>
  readFields(lastOf(readFields(answer), 4) ?? new Uint8Array()).flatMap(({ bytes }) => bytes ?? []);

describe("createReflection", () => {
  test.each(["v1", "v1alpha"])(
    "createReflection() lists the services and describes each to protobufjs as the standard's file does, in %s (A-3, E-13, E-14)",
    async (version) => {
      const [services, workload, health, own] = await ask(version, [
        delimited(7, "*"),
        delimited(4, "SpiffeWorkloadAPI"),
        delimited(4, "grpc.health.v1.Health.Watch"),
        delimited(3, `grpc/reflection/${version}/reflection.proto`),
      ]);
      const names = readFields(lastOf(readFields(services as Uint8Array), 6) ?? new Uint8Array()).map(({ bytes }) =>
        readText(lastOf(readFields(bytes as Uint8Array), 1) as Uint8Array),
      );
      expect(names).toContain("SpiffeWorkloadAPI");
      expect(names).toContain(`grpc.reflection.${version}.ServerReflection`);
      const set = concat(filesOf(workload as Uint8Array).map((file) => delimited(1, file)));
      const described = loadFileDescriptorSetFromBuffer(Buffer.from(set));
      const written = loadSync(join(import.meta.dir, "workload.proto"), { keepCase: true });
      const shape = (definition: object) => JSON.parse(JSON.stringify(definition));
      expect(Object.keys(described).sort()).toEqual(Object.keys(written).sort());
      for (const name of ["X509SVIDResponse", "X509SVID", "JWTBundlesResponse", "WITSVID"]) {
        const typeOf = (of: object) => shape(of)[name].type.field.map(fieldOf);
        expect(typeOf(described)).toEqual(typeOf(written));
      }
      const methods = (of: object) =>
        Object.values(shape(of).SpiffeWorkloadAPI as Record<string, Record<string, unknown>>).map(
          ({ path, requestStream, responseStream }) => [path, requestStream, responseStream],
        );
      expect(methods(described)).toEqual(methods(written));
      for (const files of [health, own]) expect(filesOf(files as Uint8Array)).toHaveLength(1);
    },
  );

  test("createReflection() echoes the request, and refuses what it does not know (E-14)", async () => {
    const requests = [
      delimited(4, "nothing.Here"),
      delimited(3, "none.proto"),
      delimited(6, "X509SVID"),
      Buffer.alloc(0),
    ];
    const answers = await ask("v1", requests);
    const codes = answers.map((answer, index) => {
      const fields = readFields(answer);
      expect(Buffer.from(lastOf(fields, 2) ?? [])).toEqual(Buffer.from(requests[index] as Uint8Array));
      return Number(readFields(lastOf(fields, 7) as Uint8Array)[0]?.value);
    });
    expect(codes).toEqual([5, 5, 5, 3]);
    expect(await ask("v1", [Buffer.of(0xff)]).catch(({ code }) => code)).toBe(3);
  });

  test("encodeFileDescriptor() describes every file so that protobufjs takes it", () => {
    const set = concat(SCHEMAS.map((file) => delimited(1, encodeFileDescriptor(file))));
    const loaded = Object.keys(loadFileDescriptorSetFromBuffer(Buffer.from(set)));
    const top = SCHEMAS.flatMap((file) => symbolsOf(file)).filter((name) => /(^|\.)[A-Z]\w+$/.test(name));
    for (const name of [
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflectionResponse",
      "google.protobuf.Value",
    ]) {
      expect(loaded).toContain(name);
      expect(top).toContain(name);
    }
  });
});

/** Without the type's name: protobufjs has one of its own for a map's entries. */
function fieldOf({ name, number, type, label }: Record<string, unknown>) {
  return { name, number, type, label };
}

describe("createHealth", () => {
  const watch = (service: string): ClientReadableStream<Buffer> =>
    client.makeServerStreamRequest(
      "/grpc.health.v1.Health/Watch",
      same,
      same,
      Buffer.from(service === "" ? [] : delimited(1, service)),
    );
  const next = (stream: ClientReadableStream<Buffer>) =>
    new Promise<string>((resolve, reject) => {
      stream.once("data", (message: Buffer) => resolve(message.toString("hex")));
      stream.once("error", reject);
    });

  test("Watch() tells the status now and each time that it changes, once", async () => {
    const [whole, service] = [watch(""), watch("SpiffeWorkloadAPI")];
    expect(await Promise.all([next(whole), next(service)])).toEqual(["0801", "0801"]);
    const gone = [next(whole), next(service)];
    endpoint.setRules(identityRule("app"));
    endpoint.dropRules();
    expect(await Promise.all(gone)).toEqual(["0802", "0802"]);
    const back = next(whole);
    endpoint.setRules(identityRule("app"));
    expect(await back).toBe("0801");
    for (const stream of [whole, service]) {
      stream.on("error", () => undefined);
      stream.cancel();
    }
  });

  test("Watch() of a service that is not here says SERVICE_UNKNOWN and stays open", async () => {
    const stream = watch("nobody");
    expect(await next(stream)).toBe("0803");
    stream.on("error", () => undefined);
    stream.cancel();
  });
});
