"""What an ONNX file may contain. Reads the protobuf and never makes a session; runs in the admission child.

Lessons: external data that points outside the model (CVE-2022-25882, CVE-2024-27318), in-memory address markers as
"locations", operators that open files or call Python, function bodies that expand exponentially, shapes whose product
overflows, session options smuggled in as metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from export.admission_limits import AdmissionLimits
from export.admission_operators import (
    EXPANDING_OPERATORS,
    EXTERNAL_KEYS,
    FORBIDDEN_METADATA,
    ITEM_BITS,
    MICROSOFT_OPERATORS,
    ONNX_ELEMENT_TYPES,
    STANDARD_DOMAINS,
    STRING,
)
from export.contracts.errors import AdmissionRefused
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.package_files import is_safe_path


@dataclass(kw_only=True)
class _Walk:
    """What has been counted so far, and what is known of the package."""

    limits: AdmissionLimits
    sizes: Mapping[str, int]  # files of the package that may hold external data
    functions: dict[tuple[str, str], Any] = field(default_factory=dict)
    nodes: int = 0
    tensors: int = 0
    tensor_bytes: int = 0
    external: set[str] = field(default_factory=set)


def check_onnx(data: bytes, sizes: Mapping[str, int], signature: Signature, limits: AdmissionLimits) -> dict[str, int]:
    """Check an ONNX file against the rules.

    Args:
        data: The file.
        sizes: Size of each file with role WEIGHTS, by path: what external data may name.
        signature: What the manifest says of inputs and outputs.
        limits: Sizes and depths.

    Returns:
        Counts for the report.

    Raises:
        AdmissionRefused: names the rule.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError; it also stops at its own nesting limit
        raise AdmissionRefused(f"ONNX: not a readable model ({type(error).__name__})") from None
    _check_head(model, onnx.IR_VERSION, onnx.defs.onnx_opset_version())
    walk = _Walk(limits=limits, sizes=sizes)
    for function in model.functions:
        key = (function.domain, function.name)
        if function.domain in STANDARD_DOMAINS or function.domain.startswith("com.microsoft"):
            raise AdmissionRefused(f"ONNX: function '{function.name[:60]}' redefines a standard domain")
        if key in walk.functions:
            raise AdmissionRefused(f"ONNX: function '{function.name[:60]}' is defined twice")
        walk.functions[key] = function
    _check_graph(model.graph, walk, depth=0, known=onnx.defs.has)
    for function in walk.functions.values():
        for node in function.node:
            _check_node(node, walk, depth=1, known=onnx.defs.has)
    expanded = _expanded_nodes(model.graph.node, walk.functions, (), {})
    if expanded > limits.nodes:
        raise AdmissionRefused(f"ONNX: functions expand to more than {limits.nodes} nodes")
    _check_signature(model.graph, signature)
    return {"nodes": walk.nodes, "tensors": walk.tensors, "tensor_bytes": walk.tensor_bytes}


def _check_head(model: Any, newest_ir: int, newest_opset: int) -> None:
    if not 3 <= model.ir_version <= newest_ir:
        raise AdmissionRefused(f"ONNX: IR version {model.ir_version} is not in 3..{newest_ir}")
    if not model.opset_import:
        raise AdmissionRefused("ONNX: no operator set is imported")
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 7 <= opset.version <= newest_opset:
            raise AdmissionRefused(f"ONNX: operator set {opset.version} is not in 7..{newest_opset}")
    if model.training_info:
        raise AdmissionRefused("ONNX: training information is not accepted")
    for prop in model.metadata_props:
        if prop.key in FORBIDDEN_METADATA:
            raise AdmissionRefused(f"ONNX: metadata '{prop.key}' changes how a session is made")


def _check_graph(graph: Any, walk: _Walk, *, depth: int, known: Any) -> None:
    if depth > walk.limits.nesting:
        raise AdmissionRefused(f"ONNX: graphs are nested deeper than {walk.limits.nesting}")
    constants: dict[str, Any] = {}
    for tensor in graph.initializer:
        _check_tensor(tensor, walk, external_allowed=True)
        constants[tensor.name] = tensor
    for sparse in graph.sparse_initializer:
        _check_sparse(sparse, walk)
    for node in graph.node:
        _check_node(node, walk, depth=depth, known=known)
        if node.op_type == "Constant" and node.output:
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    for node in graph.node:
        position = EXPANDING_OPERATORS.get(node.op_type)
        if position is not None and node.domain in STANDARD_DOMAINS and len(node.input) > position:
            _check_expansion(node.op_type, constants.get(node.input[position]), walk.limits)


def _check_node(node: Any, walk: _Walk, *, depth: int, known: Any) -> None:
    walk.nodes += 1
    if walk.nodes > walk.limits.nodes:
        raise AdmissionRefused(f"ONNX: more than {walk.limits.nodes} nodes")
    name, domain = node.op_type[:60], node.domain[:60]
    if (node.domain, node.op_type) in walk.functions:
        pass
    elif node.domain in STANDARD_DOMAINS:
        # ONNX Runtime registers a few operators of its own in the standard domain; those are not accepted here.
        if not known(node.op_type, "" if node.domain == "ai.onnx" else node.domain):
            raise AdmissionRefused(f"ONNX: operator '{name}' is not in the standard")
    elif node.domain == "com.microsoft":
        if node.op_type not in MICROSOFT_OPERATORS:
            raise AdmissionRefused(f"ONNX: operator 'com.microsoft::{name}' is not on the list of accepted ones")
    else:
        raise AdmissionRefused(f"ONNX: operator '{domain}::{name}' is of a domain that is not accepted")
    for attribute in node.attribute:
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            _check_tensor(tensor, walk, external_allowed=False)
        for sparse in (
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ):
            _check_sparse(sparse, walk)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _check_graph(graph, walk, depth=depth + 1, known=known)


def _check_sparse(sparse: Any, walk: _Walk) -> None:
    _check_tensor(sparse.values, walk, external_allowed=False)
    _check_tensor(sparse.indices, walk, external_allowed=False)
    _elements("a sparse tensor", sparse.dims, walk.limits)


def _check_tensor(tensor: Any, walk: _Walk, *, external_allowed: bool) -> None:
    name = f"tensor '{tensor.name[:60]}'"
    walk.tensors += 1
    if walk.tensors > walk.limits.tensors:
        raise AdmissionRefused(f"ONNX: more than {walk.limits.tensors} tensors")
    elements = _elements(name, tensor.dims, walk.limits)
    if tensor.HasField("segment"):
        raise AdmissionRefused(f"ONNX: {name} is stored in segments, which nothing reads")
    if tensor.data_type == STRING:
        if len(tensor.string_data) != elements or tensor.data_location == 1 or tensor.raw_data:
            raise AdmissionRefused(f"ONNX: {name} holds {len(tensor.string_data)} strings for {elements} elements")
        return
    bits = ITEM_BITS.get(tensor.data_type)
    if bits is None:
        raise AdmissionRefused(f"ONNX: {name} has the unknown data type {tensor.data_type}")
    wanted = (elements * bits + 7) // 8
    walk.tensor_bytes += wanted
    if walk.tensor_bytes > walk.limits.total_bytes:
        raise AdmissionRefused(f"ONNX: tensors take more than {walk.limits.total_bytes} bytes")
    if tensor.data_location == 1 or tensor.external_data:
        if not external_allowed:
            raise AdmissionRefused(f"ONNX: {name} is not an initializer and names external data")
        _check_external(name, tensor, wanted, walk)
    elif tensor.raw_data:
        if len(tensor.raw_data) != wanted:
            raise AdmissionRefused(f"ONNX: {name} holds {len(tensor.raw_data)} bytes, its shape needs {wanted}")
    else:
        typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        if elements > 2 * max(len(values) for values in typed):
            raise AdmissionRefused(f"ONNX: {name} holds fewer values than its shape needs")


def _check_external(name: str, tensor: Any, wanted: int, walk: _Walk) -> None:
    entries = {e.key: e.value for e in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not set(entries) <= EXTERNAL_KEYS or entries.get("basepath"):
        raise AdmissionRefused(f"ONNX: {name} describes its external data in an unknown way")
    location = entries.get("location", "")
    if not is_safe_path(location):
        raise AdmissionRefused(f"ONNX: {name} takes external data from outside the package")
    if location not in walk.sizes:
        raise AdmissionRefused(f"ONNX: {name} takes external data from a file that the manifest does not name")
    numbers = [entries.get("offset", "0"), entries.get("length", str(wanted))]
    if not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
        raise AdmissionRefused(f"ONNX: {name} has an external offset or length that is no plain number")
    offset, length = map(int, numbers)
    if length != wanted:
        raise AdmissionRefused(f"ONNX: {name} takes {length} external bytes, its shape needs {wanted}")
    if offset + length > walk.sizes[location]:
        raise AdmissionRefused(f"ONNX: {name} reaches past the end of its external data")
    walk.external.add(location)


def _elements(name: str, dims: Any, limits: AdmissionLimits) -> int:
    if len(dims) > limits.rank:
        raise AdmissionRefused(f"ONNX: {name} has {len(dims)} dimensions, at most {limits.rank} are accepted")
    if any(d < 0 for d in dims):
        raise AdmissionRefused(f"ONNX: {name} has a negative dimension")
    count = prod(int(d) for d in dims)
    if count > limits.elements:
        raise AdmissionRefused(f"ONNX: {name} has more than {limits.elements} elements")
    return count


def _check_expansion(operator: str, tensor: Any, limits: AdmissionLimits) -> None:
    if tensor is None or tensor.data_type != 7 or tensor.data_location == 1:
        return
    raw = tensor.raw_data
    values = [int.from_bytes(raw[i : i + 8], "little", signed=True) for i in range(0, min(len(raw), 8 * 64), 8)]
    shape = values or list(tensor.int64_data[:64])
    if any(n < 0 for n in shape):
        raise AdmissionRefused(f"ONNX: a constant shape of '{operator}' is negative")
    if prod(shape) > limits.constant_elements:
        raise AdmissionRefused(f"ONNX: '{operator}' makes more than {limits.constant_elements} elements of a constant")


def _expanded_nodes(
    nodes: Any, functions: Mapping[tuple[str, str], Any], path: tuple[tuple[str, str], ...], known: dict[Any, int]
) -> int:
    """Nodes after every function call is replaced by its body; Python integers do not overflow."""
    total = 0
    for node in _all_nodes(nodes):
        key = (node.domain, node.op_type)
        if key not in functions:
            total += 1
            continue
        if key in path:
            raise AdmissionRefused(f"ONNX: function '{node.op_type[:60]}' calls itself")
        if len(path) >= 32:
            raise AdmissionRefused("ONNX: functions call each other deeper than 32")
        if key not in known:
            known[key] = _expanded_nodes(functions[key].node, functions, (*path, key), known)
        total += known[key]
    return total


def _all_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(graph.node)


def _check_signature(graph: Any, signature: Signature) -> None:
    stored = {t.name for t in graph.initializer}
    for kind, values, specs in (
        ("input", [v for v in graph.input if v.name not in stored], signature.inputs),
        ("output", list(graph.output), signature.outputs),
    ):
        by_name = {v.name: v for v in values}
        for spec in specs:
            if spec.name not in by_name:
                raise AdmissionRefused(f"signature: the ONNX file has no {kind} '{spec.name}'")
            _check_value(kind, spec, by_name[spec.name])
        extra = set(by_name) - {s.name for s in specs}
        if kind == "input" and extra:
            raise AdmissionRefused(f"signature: the ONNX file has the further input '{min(extra)[:60]}'")


def _check_value(kind: str, spec: InputSpec | OutputSpec, value: Any) -> None:
    if not value.type.HasField("tensor_type"):
        raise AdmissionRefused(f"signature: {kind} '{spec.name}' of the ONNX file is no tensor")
    tensor = value.type.tensor_type
    if tensor.elem_type != ONNX_ELEMENT_TYPES[spec.datatype]:
        raise AdmissionRefused(f"signature: {kind} '{spec.name}' is {spec.datatype}, the ONNX file says otherwise")
    if not tensor.HasField("shape"):
        return
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    fits = len(dims) == len(spec.shape) and all(
        d in (-1, s) or (s == -1 and d < 0) for d, s in zip(dims, spec.shape, strict=True)
    )
    if not fits:
        raise AdmissionRefused(
            f"signature: {kind} '{spec.name}' has shape {list(spec.shape)}, the ONNX file says {dims}"
        )
