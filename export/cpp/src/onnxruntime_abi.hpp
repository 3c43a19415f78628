// ONNX Runtime's C interface, as far as this program calls it: own declarations of a stable binary interface.
//
// The library hands out a table of functions whose positions never change, new ones being appended ("OrtApi",
// https://onnxruntime.ai/docs/api/c/struct_ort_api.html). So a program needs neither its headers nor the library to be
// built, and one binary works with every release since 1.16. Where onnxruntime_c_api.h is found at build time,
// onnxruntime_abi_check.cpp holds every position and constant below against it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hardcase::ort {

inline constexpr std::uint32_t kApiVersion = 16;

struct Status;
struct Env;
struct Session;
struct SessionOptions;
struct RunOptions;
struct MemoryInfo;
struct Allocator;
struct Value;
struct ShapeInfo;

enum LogLevel { kLogError = 3 };
enum AllocatorType { kDeviceAllocator = 0 };
enum MemoryType { kDefaultMemory = 0 };
enum ElementType {
  kFloat = 1, kUint8, kInt8, kUint16, kInt16, kInt32, kInt64, kString, kBool, kFloat16, kDouble, kUint32, kUint64,
  kBfloat16 = 16
};

using Unused = void*;

// The number in front is the position in the table.
struct Api {
  Unused unused_0[2];
  /*   2 */ const char* (*GetErrorMessage)(const Status*);
  /*   3 */ Status* (*CreateEnv)(LogLevel, const char* log_id, Env**);
  Unused unused_4[3];
  /*   7 */ Status* (*CreateSession)(const Env*, const char* path, const SessionOptions*, Session**);
  Unused unused_8[1];
  /*   9 */ Status* (*Run)(Session*, const RunOptions*, const char* const* input_names, const Value* const* inputs,
                           std::size_t input_count, const char* const* output_names, std::size_t output_count,
                           Value** outputs);
  /*  10 */ Status* (*CreateSessionOptions)(SessionOptions**);
  Unused unused_11[13];
  /*  24 */ Status* (*SetIntraOpNumThreads)(SessionOptions*, int);
  Unused unused_25[23];
  /*  48 */ Status* (*CreateTensorAsOrtValue)(Allocator*, const std::int64_t* shape, std::size_t rank, ElementType,
                                              Value**);
  /*  49 */ Status* (*CreateTensorWithDataAsOrtValue)(const MemoryInfo*, void* data, std::size_t bytes,
                                                      const std::int64_t* shape, std::size_t rank, ElementType,
                                                      Value**);
  /*  50 */ Status* (*IsTensor)(const Value*, int*);
  /*  51 */ Status* (*GetTensorMutableData)(Value*, void**);
  Unused unused_52[1];
  /*  53 */ Status* (*GetStringTensorDataLength)(const Value*, std::size_t*);
  /*  54 */ Status* (*GetStringTensorContent)(const Value*, void* data, std::size_t bytes, std::size_t* offsets,
                                              std::size_t count);
  Unused unused_55[5];
  /*  60 */ Status* (*GetTensorElementType)(const ShapeInfo*, ElementType*);
  /*  61 */ Status* (*GetDimensionsCount)(const ShapeInfo*, std::size_t*);
  /*  62 */ Status* (*GetDimensions)(const ShapeInfo*, std::int64_t*, std::size_t rank);
  Unused unused_63[2];
  /*  65 */ Status* (*GetTensorTypeAndShape)(const Value*, ShapeInfo**);
  Unused unused_66[3];
  /*  69 */ Status* (*CreateCpuMemoryInfo)(AllocatorType, MemoryType, MemoryInfo**);
  Unused unused_70[8];
  /*  78 */ Status* (*GetAllocatorWithDefaultOptions)(Allocator**);
  Unused unused_79[13];
  /*  92 */ void (*ReleaseEnv)(Env*);
  /*  93 */ void (*ReleaseStatus)(Status*);
  /*  94 */ void (*ReleaseMemoryInfo)(MemoryInfo*);
  /*  95 */ void (*ReleaseSession)(Session*);
  /*  96 */ void (*ReleaseValue)(Value*);
  Unused unused_97[2];
  /*  99 */ void (*ReleaseTensorTypeAndShapeInfo)(ShapeInfo*);
  /* 100 */ void (*ReleaseSessionOptions)(SessionOptions*);
  Unused unused_101[151];
  /* 252 */ Status* (*GetResizedStringTensorElementBuffer)(Value*, std::size_t index, std::size_t bytes, char**);
};

struct ApiBase {
  const Api* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

// The library's one exported symbol.
inline constexpr const char* kEntryPoint = "OrtGetApiBase";
using EntryPoint = const ApiBase* (*)();

}  // namespace hardcase::ort
