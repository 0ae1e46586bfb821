// What the services on this socket say of themselves: the messages of the SPIFFE Workload API, of health and of reflection, by their standards' field numbers.

import type { FileSchema, MessageSchema, ServiceSchema } from "./descriptor.ts";

const NOTHING: MessageSchema = { fields: [] };

/** google.protobuf.Struct, which the Workload API's file imports. */
const STRUCT: FileSchema = {
  path: "google/protobuf/struct.proto",
  package: "google.protobuf",
  messages: {
    Struct: { fields: ["map<string, .google.protobuf.Value> fields = 1"] },
    Value: {
      fields: [
        "enum .google.protobuf.NullValue null_value = 1",
        "double number_value = 2",
        "string string_value = 3",
        "bool bool_value = 4",
        ".google.protobuf.Struct struct_value = 5",
        ".google.protobuf.ListValue list_value = 6",
      ],
      oneofs: {
        kind: ["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"],
      },
    },
    ListValue: { fields: ["repeated .google.protobuf.Value values = 1"] },
  },
  enums: { NullValue: ["NULL_VALUE"] },
};

/** The standard's file has no package. */
const WORKLOAD: FileSchema = {
  path: "workload.proto",
  package: "",
  imports: [STRUCT.path],
  messages: {
    X509SVIDRequest: NOTHING,
    X509SVIDResponse: {
      fields: ["repeated .X509SVID svids = 1", "repeated bytes crl = 2", "map<string, bytes> federated_bundles = 3"],
    },
    X509SVID: {
      fields: [
        "string spiffe_id = 1",
        "bytes x509_svid = 2",
        "bytes x509_svid_key = 3",
        "bytes bundle = 4",
        "string hint = 5",
      ],
    },
    X509BundlesRequest: NOTHING,
    X509BundlesResponse: { fields: ["repeated bytes crl = 1", "map<string, bytes> bundles = 2"] },
    JWTSVIDRequest: { fields: ["repeated string audience = 1", "string spiffe_id = 2"] },
    JWTSVIDResponse: { fields: ["repeated .JWTSVID svids = 1"] },
    JWTSVID: { fields: ["string spiffe_id = 1", "string svid = 2", "string hint = 3"] },
    JWTBundlesRequest: NOTHING,
    JWTBundlesResponse: { fields: ["map<string, bytes> bundles = 1"] },
    ValidateJWTSVIDRequest: { fields: ["string audience = 1", "string svid = 2"] },
    ValidateJWTSVIDResponse: { fields: ["string spiffe_id = 1", ".google.protobuf.Struct claims = 2"] },
    WITSVIDRequest: { fields: ["string spiffe_id = 1"] },
    WITSVIDResponse: { fields: ["repeated .WITSVID svids = 1"] },
    WITSVID: {
      fields: ["string spiffe_id = 1", "string wit_svid = 2", "string wit_svid_key = 3", "string hint = 4"],
    },
    WITBundlesRequest: NOTHING,
    WITBundlesResponse: { fields: ["map<string, string> bundles = 1"] },
  },
  services: {
    SpiffeWorkloadAPI: {
      FetchX509SVID: ["X509SVIDRequest", "stream X509SVIDResponse"],
      FetchX509Bundles: ["X509BundlesRequest", "stream X509BundlesResponse"],
      FetchJWTSVID: ["JWTSVIDRequest", "JWTSVIDResponse"],
      FetchJWTBundles: ["JWTBundlesRequest", "stream JWTBundlesResponse"],
      ValidateJWTSVID: ["ValidateJWTSVIDRequest", "ValidateJWTSVIDResponse"],
      FetchWITSVID: ["WITSVIDRequest", "stream WITSVIDResponse"],
      FetchWITBundles: ["WITBundlesRequest", "stream WITBundlesResponse"],
    },
  },
};

const HEALTH: FileSchema = {
  path: "grpc/health/v1/health.proto",
  package: "grpc.health.v1",
  messages: {
    HealthCheckRequest: { fields: ["string service = 1"] },
    HealthCheckResponse: {
      fields: ["enum .grpc.health.v1.HealthCheckResponse.ServingStatus status = 1"],
      enums: { ServingStatus: ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] },
    },
  },
  services: {
    Health: {
      Check: ["HealthCheckRequest", "HealthCheckResponse"],
      Watch: ["HealthCheckRequest", "stream HealthCheckResponse"],
    },
  },
};

/** v1 and v1alpha differ in their package alone. */
function reflection(version: "v1" | "v1alpha"): FileSchema {
  const package_ = `grpc.reflection.${version}`;
  const of = (name: string) => `.${package_}.${name}`;
  const service: ServiceSchema = {
    ServerReflectionInfo: ["stream ServerReflectionRequest", "stream ServerReflectionResponse"],
  };
  return {
    path: `grpc/reflection/${version}/reflection.proto`,
    package: package_,
    messages: {
      ServerReflectionRequest: {
        fields: [
          "string host = 1",
          "string file_by_filename = 3",
          "string file_containing_symbol = 4",
          `${of("ExtensionRequest")} file_containing_extension = 5`,
          "string all_extension_numbers_of_type = 6",
          "string list_services = 7",
        ],
        oneofs: {
          message_request: [
            "file_by_filename",
            "file_containing_symbol",
            "file_containing_extension",
            "all_extension_numbers_of_type",
            "list_services",
          ],
        },
      },
      ExtensionRequest: { fields: ["string containing_type = 1", "int32 extension_number = 2"] },
      ServerReflectionResponse: {
        fields: [
          "string valid_host = 1",
          `${of("ServerReflectionRequest")} original_request = 2`,
          `${of("FileDescriptorResponse")} file_descriptor_response = 4`,
          `${of("ExtensionNumberResponse")} all_extension_numbers_response = 5`,
          `${of("ListServiceResponse")} list_services_response = 6`,
          `${of("ErrorResponse")} error_response = 7`,
        ],
        oneofs: {
          message_response: [
            "file_descriptor_response",
            "all_extension_numbers_response",
            "list_services_response",
            "error_response",
          ],
        },
      },
      FileDescriptorResponse: { fields: ["repeated bytes file_descriptor_proto = 1"] },
      ExtensionNumberResponse: { fields: ["string base_type_name = 1", "repeated int32 extension_number = 2"] },
      ListServiceResponse: { fields: [`repeated ${of("ServiceResponse")} service = 1`] },
      ServiceResponse: { fields: ["string name = 1"] },
      ErrorResponse: { fields: ["int32 error_code = 1", "string error_message = 2"] },
    },
    services: { ServerReflection: service },
  };
}

export const SCHEMAS: readonly FileSchema[] = [STRUCT, WORKLOAD, HEALTH, reflection("v1"), reflection("v1alpha")];
