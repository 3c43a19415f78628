"""The compiled contract is what the `.proto` files say, and means on the wire what other clients mean by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from serving.grpc.compile import CONTRACT, FOLDER, compile_to
from serving.grpc.messages import SERVICE, messages, pool


def test_the_compiled_contract_is_that_of_the_sources(tmp_path: Path):
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    compile_to(tmp_path / CONTRACT)
    fresh = FileDescriptorSet.FromString((tmp_path / CONTRACT).read_bytes())
    assert fresh == FileDescriptorSet.FromString((FOLDER / CONTRACT).read_bytes()), "run python -m serving.grpc.compile"


def _all(file: object) -> list[Descriptor]:
    found: list[Descriptor] = []
    todo = list(file.message_types_by_name.values())  # type: ignore[attr-defined]
    while todo:
        message = todo.pop()
        found.append(message)
        todo += message.nested_types
    return found


def _facts(field: FieldDescriptor) -> tuple[object, ...]:
    inner = field.message_type.full_name if field.message_type else field.enum_type and field.enum_type.full_name
    oneof = field.containing_oneof and field.containing_oneof.name
    return field.name, field.number, field.type, field.is_repeated, inner, oneof


OURS = _all(pool().FindFileByName("inference.proto"))


@pytest.mark.parametrize("ours", OURS, ids=lambda d: d.full_name)
def test_every_field_has_the_number_and_type_that_tritonclient_knows(ours: Descriptor):
    from tritonclient.grpc import model_config_pb2, service_pb2

    theirs = {d.full_name: d for d in _all(service_pb2.DESCRIPTOR) + _all(model_config_pb2.DESCRIPTOR)}[ours.full_name]
    for field in ours.fields:
        assert _facts(field) == _facts(theirs.fields_by_name[field.name])
    enums: list[EnumDescriptor] = list(ours.enum_types)
    for enum in enums:
        known = theirs.enum_types_by_name[enum.name].values_by_name
        assert {v.name: v.number for v in enum.values} == {name: known[name].number for name in enum.values_by_name}


def test_every_method_is_one_that_tritonclient_calls():
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    ours = pool().FindServiceByName(SERVICE)
    for method in ours.methods:
        known = theirs.methods_by_name[method.name]
        shape = (method.input_type.full_name, method.output_type.full_name)
        assert shape == (known.input_type.full_name, known.output_type.full_name)
        assert (method.client_streaming, method.server_streaming) == (known.client_streaming, known.server_streaming)


def test_messages_of_both_pools_live_in_one_process():
    from tritonclient.grpc import service_pb2

    mine = messages().ModelInferRequest(model_name="m", raw_input_contents=[b"\x00"])
    mine.parameters["priority"].int64_param = 1
    theirs = service_pb2.ModelInferRequest.FromString(mine.SerializeToString())
    assert theirs.parameters["priority"].int64_param == 1
    assert not isinstance(theirs, type(mine))
