"""The messages of the Open Inference Protocol over gRPC, made at import from the table below.

Each line is one of the protocol's messages with its fields: a type, the name, the number on the wire. Code that protoc
generates would say the same in a thousand lines, and only to one version of protobuf.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "GRPCInferenceService"

MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready 1",
    "ModelReadyRequest": "string name 1, string version 2",
    "ModelReadyResponse": "bool ready 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name 1, string version 2, repeated string extensions 3",
    "ModelMetadataRequest": "string name 1, string version 2",
    "ModelMetadataResponse": "string name 1, repeated string versions 2, string platform 3, "
    "repeated ModelMetadataResponse.TensorMetadata inputs 4, repeated ModelMetadataResponse.TensorMetadata outputs 5",
    "ModelMetadataResponse.TensorMetadata": "string name 1, string datatype 2, repeated int64 shape 3",
    "InferParameter": "one bool bool_param 1, one int64 int64_param 2, one string string_param 3, "
    "one double double_param 4, one uint64 uint64_param 5",
    "InferTensorContents": "repeated bool bool_contents 1, repeated int32 int_contents 2, "
    "repeated int64 int64_contents 3, repeated uint32 uint_contents 4, repeated uint64 uint64_contents 5, "
    "repeated float fp32_contents 6, repeated double fp64_contents 7, repeated bytes bytes_contents 8",
    "ModelInferRequest": "string model_name 1, string model_version 2, string id 3, map InferParameter parameters 4, "
    "repeated ModelInferRequest.InferInputTensor inputs 5, "
    "repeated ModelInferRequest.InferRequestedOutputTensor outputs 6, repeated bytes raw_input_contents 7",
    "ModelInferRequest.InferInputTensor": "string name 1, string datatype 2, repeated int64 shape 3, "
    "map InferParameter parameters 4, InferTensorContents contents 5",
    "ModelInferRequest.InferRequestedOutputTensor": "string name 1, map InferParameter parameters 2",
    "ModelInferResponse": "string model_name 1, string model_version 2, string id 3, map InferParameter parameters 4, "
    "repeated ModelInferResponse.InferOutputTensor outputs 5, repeated bytes raw_output_contents 6",
    "ModelInferResponse.InferOutputTensor": "string name 1, string datatype 2, repeated int64 shape 3, "
    "map InferParameter parameters 4, InferTensorContents contents 5",
}

_Field = descriptor_pb2.FieldDescriptorProto


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tarmac/inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():  # what lies inside another message comes after it
        outer, _, inner = name.rpartition(".")
        around = next(found for found in file.message_type if found.name == outer) if outer else None
        message = around.nested_type.add(name=inner) if around is not None else file.message_type.add(name=name)
        for line in filter(None, fields.split(", ")):
            _add_field(message, name, line.split())
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, words: list[str]) -> None:
    mark = words[0] if len(words) == 4 else ""
    kind, name, number = words[-3:]
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if mark == "map":  # on the wire a map is a list of pairs
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, path, ["string", "key", "1"])
        _add_field(entry, path, [kind, "value", "2"])
        kind = f"{path}.{entry.name}"
    if mark in ("map", "repeated"):
        field.label = _Field.LABEL_REPEATED
    if mark == "one":  # of which at most one is there
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind in MESSAGES or mark == "map":
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()  # of its own: a client in the same process may bring the same names
    pool.Add(_described())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
        if "." not in name
    }


CLASSES = _classes()
METHODS = [name.removesuffix("Request") for name in CLASSES if name.endswith("Request")]
