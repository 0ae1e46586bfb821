// gRPC server reflection (Workload Endpoint section 7), v1 and v1alpha: what services there are here, and what their messages look like.

import { encodeFileDescriptor, type FileSchema, symbolsOf } from "./descriptor.ts";
import { concat, delimited, integer, readFields, readText } from "./protobuf.ts";
import { CallRefusal, STATUS } from "./refusal.ts";
import { SCHEMAS } from "./schema.ts";
import type { BidiCall, Service } from "./server.ts";
import { countCall, type ServiceParts } from "./service.ts";

const VERSIONS = ["v1", "v1alpha"] as const;
/** Fields of ServerReflectionRequest, by what they ask. */
const ASK = { fileName: 3, symbol: 4, extension: 5, extensionNumbers: 6, services: 7 } as const;
const ANSWER = { files: 4, services: 6, error: 7 } as const;

/** Asks for no identity and no security header, as health: it tells what the standards' files tell. */
export function createReflection(
  parts: Pick<ServiceParts, "clock" | "counters" | "limits">,
  services: readonly string[],
): readonly Service[] {
  const catalogue = new Catalogue(services);
  return VERSIONS.map((version) => ({
    prefix: `/grpc.reflection.${version}.ServerReflection/`,
    methods: {
      ServerReflectionInfo: {
        kind: "bidi",
        async converse(call) {
          const release = countCall(call, parts);
          try {
            await answerEach(call, catalogue);
          } finally {
            release();
          }
        },
      },
    },
  }));
}

/** One question at a time: the next is not read before the answer has left. */
async function answerEach(call: BidiCall, catalogue: Catalogue): Promise<void> {
  for await (const request of call.requests) {
    call.send(answerTo(request, catalogue));
    await call.drained();
    if (call.signal.aborted) return;
  }
}

function answerTo(request: Uint8Array, catalogue: Catalogue): Uint8Array {
  try {
    const fields = readFields(request);
    const asked = fields.findLast(({ number, bytes }) => number >= ASK.fileName && bytes !== undefined);
    const answer = answerOf(asked, catalogue);
    const host = fields.findLast(({ number, bytes }) => number === 1 && bytes !== undefined);
    return concat([delimited(1, host?.bytes ?? new Uint8Array()), delimited(2, request), answer]);
  } catch (cause) {
    throw new CallRefusal("invalidArgument", "the request is malformed", { cause });
  }
}

function answerOf(
  asked: { readonly number: number; readonly bytes: Uint8Array | undefined } | undefined,
  catalogue: Catalogue,
): Uint8Array {
  const bytes = asked?.bytes ?? new Uint8Array();
  switch (asked?.number) {
    case ASK.services:
      return delimited(ANSWER.services, concat(catalogue.services.map((name) => delimited(1, delimited(1, name)))));
    case ASK.fileName:
      return filesOr(catalogue.filesOf(readText(bytes)), "there is no such file here");
    case ASK.symbol:
      return filesOr(catalogue.filesWith(readText(bytes)), "this server does not describe that name");
    case ASK.extension:
    case ASK.extensionNumbers:
      return failure(STATUS.notFound, "no message here has extensions");
    default:
      return failure(STATUS.invalidArgument, "the request asks nothing that is known here");
  }
}

function filesOr(files: readonly Uint8Array[] | undefined, sentence: string): Uint8Array {
  if (files === undefined) return failure(STATUS.notFound, sentence);
  return delimited(ANSWER.files, concat(files.map((file) => delimited(1, file))));
}

function failure(code: number, sentence: string): Uint8Array {
  return delimited(ANSWER.error, concat([integer(1, code), delimited(2, sentence)]));
}

/** The files by name and by what they define, each with those that it imports. */
class Catalogue {
  readonly services: readonly string[];
  readonly #byPath = new Map<string, readonly Uint8Array[]>();
  readonly #bySymbol = new Map<string, readonly Uint8Array[]>();

  constructor(services: readonly string[]) {
    this.services = services;
    const encoded = new Map(SCHEMAS.map((file): [string, Uint8Array] => [file.path, encodeFileDescriptor(file)]));
    const withImports = (file: FileSchema) =>
      [file.path, ...(file.imports ?? [])].map((path) => encoded.get(path) ?? new Uint8Array());
    for (const file of SCHEMAS) {
      const files = withImports(file);
      this.#byPath.set(file.path, files);
      for (const symbol of symbolsOf(file)) this.#bySymbol.set(symbol, files);
    }
  }

  filesOf(path: string): readonly Uint8Array[] | undefined {
    return this.#byPath.get(path);
  }

  filesWith(symbol: string): readonly Uint8Array[] | undefined {
    return this.#bySymbol.get(symbol.replace(/^\./, ""));
  }
}
