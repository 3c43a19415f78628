"""What the admission rules accept by name: ONNX domains and operators, element types, keys of external data."""

from __future__ import annotations

from collections.abc import Mapping

from export.contracts.datatypes import Datatype

STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MICROSOFT_OPERATORS = frozenset(
    {
        *("Attention", "BiasAdd", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "DecoderMaskedMultiHeadAttention"),
        *("DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "EmbedLayerNormalization", "FastGelu"),
        *("FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "GridSample", "GroupNorm", "GroupQueryAttention"),
        *("Inverse", "LongformerAttention", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits"),
        *("MultiHeadAttention", "NGramRepeatBlock", "NhwcConv", "NhwcMaxPool", "PackedAttention"),
        *("PackedMultiHeadAttention", "Pad", "QAttention", "QEmbedLayerNormalization", "QGemm", "QLinearAdd"),
        *("QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu"),
        *("QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QMoE", "MoE"),
        *("QuantizeLinear", "QuickGelu", "RelativePositionBias", "RemovePadding", "RestorePadding", "RotaryEmbedding"),
        *("SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization"),
        *("SkipSimplifiedLayerNormalization", "SparseAttention", "Trilu", "Unique"),
    }
)
FORBIDDEN_METADATA = ("ort_config",)  # ONNX Runtime can take session options from it
EXPANDING_OPERATORS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}  # operator: input that holds a shape
EXTERNAL_KEYS = {"location", "offset", "length", "checksum", "basepath"}
ITEM_BITS: Mapping[int, int] = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16},
    **dict.fromkeys((17, 18, 19, 20, 24), 8),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
STRING = 8
ONNX_ELEMENT_TYPES: Mapping[Datatype, int] = {
    Datatype.FP32: 1,
    Datatype.UINT8: 2,
    Datatype.INT8: 3,
    Datatype.UINT16: 4,
    Datatype.INT16: 5,
    Datatype.INT32: 6,
    Datatype.INT64: 7,
    Datatype.BYTES: 8,
    Datatype.BOOL: 9,
    Datatype.FP16: 10,
    Datatype.FP64: 11,
    Datatype.UINT32: 12,
    Datatype.UINT64: 13,
    Datatype.BF16: 16,
}
