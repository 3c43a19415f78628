// Where ONNX Runtime's own header is found, the build stops when a position or a constant of ours differs from it.
#if __has_include(<onnxruntime_c_api.h>)
#include <onnxruntime_c_api.h>

#include <type_traits>

#include "onnxruntime_abi.hpp"

#pragma GCC diagnostic ignored "-Wignored-attributes"  // "the result must be used" is not part of a type

namespace {

namespace ort = hardcase::ort;

static_assert(ort::kApiVersion <= ORT_API_VERSION);

// Parameters are the same in number, in size, and in being pointers or not.
template <typename Real, typename Own>
struct SameCall : std::false_type {};
template <typename RealResult, typename... Real, typename OwnResult, typename... Own>
  requires(sizeof...(Real) == sizeof...(Own))
struct SameCall<RealResult (*)(Real...), OwnResult (*)(Own...)>
    : std::bool_constant<((std::is_pointer_v<Real> == std::is_pointer_v<Own> && sizeof(Real) == sizeof(Own)) && ...)> {
};
template <typename RealResult, typename... Real, typename OwnResult, typename... Own>
  requires(sizeof...(Real) == sizeof...(Own))
struct SameCall<RealResult (*)(Real...) noexcept, OwnResult (*)(Own...)>
    : SameCall<RealResult (*)(Real...), OwnResult (*)(Own...)> {};

#define HARDCASE_SAME(function)                                                                                   \
  static_assert(offsetof(ort::Api, function) == offsetof(OrtApi, function), #function " is at another position"); \
  static_assert(SameCall<decltype(OrtApi::function), decltype(ort::Api::function)>::value, #function " differs")

HARDCASE_SAME(GetErrorMessage);
HARDCASE_SAME(CreateEnv);
HARDCASE_SAME(CreateSession);
HARDCASE_SAME(Run);
HARDCASE_SAME(CreateSessionOptions);
HARDCASE_SAME(SetIntraOpNumThreads);
HARDCASE_SAME(CreateTensorAsOrtValue);
HARDCASE_SAME(CreateTensorWithDataAsOrtValue);
HARDCASE_SAME(IsTensor);
HARDCASE_SAME(GetTensorMutableData);
HARDCASE_SAME(GetStringTensorDataLength);
HARDCASE_SAME(GetStringTensorContent);
HARDCASE_SAME(GetTensorElementType);
HARDCASE_SAME(GetDimensionsCount);
HARDCASE_SAME(GetDimensions);
HARDCASE_SAME(GetTensorTypeAndShape);
HARDCASE_SAME(CreateCpuMemoryInfo);
HARDCASE_SAME(GetAllocatorWithDefaultOptions);
HARDCASE_SAME(ReleaseEnv);
HARDCASE_SAME(ReleaseStatus);
HARDCASE_SAME(ReleaseMemoryInfo);
HARDCASE_SAME(ReleaseSession);
HARDCASE_SAME(ReleaseValue);
HARDCASE_SAME(ReleaseTensorTypeAndShapeInfo);
HARDCASE_SAME(ReleaseSessionOptions);
HARDCASE_SAME(GetResizedStringTensorElementBuffer);
static_assert(offsetof(ort::ApiBase, GetApi) == offsetof(OrtApiBase, GetApi));
static_assert(offsetof(ort::ApiBase, GetVersionString) == offsetof(OrtApiBase, GetVersionString));

static_assert(int{ort::kLogError} == int{ORT_LOGGING_LEVEL_ERROR});
static_assert(int{ort::kDeviceAllocator} == int{OrtDeviceAllocator} && int{ort::kDefaultMemory} == int{OrtMemTypeDefault});
static_assert(int{ort::kFloat} == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT});
static_assert(int{ort::kString} == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING});
static_assert(int{ort::kBool} == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL});
static_assert(int{ort::kUint64} == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64});
static_assert(int{ort::kBfloat16} == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16});

}  // namespace
#endif
