#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "hardcase/error.hpp"
#include "onnxruntime_abi.hpp"
#include "runtimes.hpp"

#ifndef HARDCASE_ONNXRUNTIME_LIBRARY
#define HARDCASE_ONNXRUNTIME_LIBRARY "libonnxruntime.so.1"
#endif

namespace hardcase {
namespace {

// In the order of Datatype.
constexpr std::array<ort::ElementType, 14> kElementTypes = {
    ort::kBool,  ort::kUint8, ort::kUint16,  ort::kUint32,   ort::kUint64, ort::kInt8,   ort::kInt16,
    ort::kInt32, ort::kInt64, ort::kFloat16, ort::kBfloat16, ort::kFloat,  ort::kDouble, ort::kString};

ort::ElementType element_type(Datatype datatype) { return kElementTypes[static_cast<std::size_t>(datatype)]; }

Datatype datatype_of(ort::ElementType type) {
  for (std::size_t i = 0; i < kElementTypes.size(); ++i) {
    if (kElementTypes[i] == type) return static_cast<Datatype>(i);
  }
  throw LoadError("an output has an element type that the protocol cannot carry");
}

std::string library_path(const RuntimeOptions& options) {
  if (!options.onnxruntime.empty()) return options.onnxruntime;
  const char* set = std::getenv("HARDCASE_ONNXRUNTIME");
  return set != nullptr && *set != '\0' ? set : HARDCASE_ONNXRUNTIME_LIBRARY;
}

// The library, open to the end of the process: it keeps threads and thread-local state that outlive a close.
struct Library {
  const ort::Api* api = nullptr;
  std::string version;

  explicit Library(const std::string& path) {
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      throw RuntimeMissing("ONNX Runtime's library cannot be opened (" + std::string(::dlerror()) +
                           "): name it with --onnxruntime or HARDCASE_ONNXRUNTIME");
    }
    const auto entry = reinterpret_cast<ort::EntryPoint>(::dlsym(handle, ort::kEntryPoint));
    if (entry == nullptr) throw RuntimeMissing("'" + path + "' is not ONNX Runtime's library");
    const ort::ApiBase* base = entry();
    version = base->GetVersionString();
    api = base->GetApi(ort::kApiVersion);
    if (api == nullptr) throw RuntimeMissing("ONNX Runtime " + version + " is too old: 1.16 or newer is needed");
  }
};

template <typename T>
using Handle = std::unique_ptr<T, std::function<void(T*)>>;

class OnnxModel final : public Model {
 public:
  OnnxModel(const std::filesystem::path& file, const Signature& signature, const RuntimeOptions& options)
      : Model(signature), library_(library_path(options)), api_(*library_.api) {
    env_ = make<ort::Env>(api_.ReleaseEnv, [&](auto out) { return api_.CreateEnv(ort::kLogError, "hardcase", out); });
    const auto settings = make<ort::SessionOptions>(api_.ReleaseSessionOptions, api_.CreateSessionOptions);
    check(api_.SetIntraOpNumThreads(settings.get(), options.threads));
    session_ = make<ort::Session>(api_.ReleaseSession, [&](auto out) {
      return api_.CreateSession(env_.get(), file.c_str(), settings.get(), out);
    });
    memory_ = make<ort::MemoryInfo>(api_.ReleaseMemoryInfo, [&](auto out) {
      return api_.CreateCpuMemoryInfo(ort::kDeviceAllocator, ort::kDefaultMemory, out);
    });
  }

  std::string library() const override { return "ONNX Runtime " + library_.version; }

 protected:
  std::vector<Tensor> call(const std::vector<const Tensor*>& inputs) const override {
    std::vector<Handle<ort::Value>> held;
    std::vector<const ort::Value*> values;
    std::vector<const char*> input_names, output_names;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      held.push_back(value_of(*inputs[i]));
      values.push_back(held.back().get());
      input_names.push_back(signature().inputs[i].name.c_str());
    }
    for (const TensorSpec& spec : signature().outputs) output_names.push_back(spec.name.c_str());
    std::vector<ort::Value*> answers(output_names.size(), nullptr);
    ort::Status* status = api_.Run(session_.get(), nullptr, input_names.data(), values.data(), values.size(),
                                   output_names.data(), output_names.size(), answers.data());
    std::vector<Handle<ort::Value>> owned;
    for (ort::Value* answer : answers) owned.emplace_back(answer, api_.ReleaseValue);
    check(status);
    std::vector<Tensor> out;
    for (const auto& answer : owned) out.push_back(tensor_of(answer.get()));
    return out;
  }

 private:
  void check(ort::Status* status) const {
    if (status == nullptr) return;
    const std::string text = api_.GetErrorMessage(status);
    api_.ReleaseStatus(status);
    throw LoadError("ONNX Runtime: " + printable(text, 400));
  }

  template <typename T, typename Make>
  Handle<T> make(void (*release)(T*), Make&& create) const {
    T* made = nullptr;
    check(create(&made));
    return Handle<T>(made, release);
  }

  Handle<ort::Value> value_of(const Tensor& tensor) const {
    const std::int64_t* shape = tensor.shape.data();
    const std::size_t rank = tensor.shape.size();
    if (tensor.datatype != Datatype::kBytes) {  // the value is a view: the tensor outlives the call
      return make<ort::Value>(api_.ReleaseValue, [&](auto out) {
        return api_.CreateTensorWithDataAsOrtValue(memory_.get(), const_cast<std::byte*>(tensor.data.data()),
                                                   tensor.data.size(), shape, rank, element_type(tensor.datatype), out);
      });
    }
    ort::Allocator* allocator = nullptr;
    check(api_.GetAllocatorWithDefaultOptions(&allocator));
    auto value = make<ort::Value>(api_.ReleaseValue, [&](auto out) {
      return api_.CreateTensorAsOrtValue(allocator, shape, rank, ort::kString, out);
    });
    for (std::size_t i = 0; i < tensor.strings.size(); ++i) {
      const std::string& text = tensor.strings[i];
      char* buffer = nullptr;
      check(api_.GetResizedStringTensorElementBuffer(value.get(), i, text.size(), &buffer));
      std::memcpy(buffer, text.data(), text.size());
    }
    return value;
  }

  Tensor tensor_of(ort::Value* value) const {
    int is_tensor = 0;
    if (value != nullptr) check(api_.IsTensor(value, &is_tensor));
    if (is_tensor == 0) throw LoadError("the model answered something that is no tensor");
    const auto info = make<ort::ShapeInfo>(api_.ReleaseTensorTypeAndShapeInfo,
                                           [&](auto out) { return api_.GetTensorTypeAndShape(value, out); });
    ort::ElementType type{};
    std::size_t rank = 0;
    check(api_.GetTensorElementType(info.get(), &type));
    check(api_.GetDimensionsCount(info.get(), &rank));
    Tensor tensor{datatype_of(type), Shape(rank), {}, {}};
    check(api_.GetDimensions(info.get(), tensor.shape.data(), rank));
    const std::size_t count = element_count(tensor.shape);
    if (tensor.datatype != Datatype::kBytes) {
      void* data = nullptr;
      check(api_.GetTensorMutableData(value, &data));
      const auto* first = static_cast<const std::byte*>(data);
      tensor.data.assign(first, first + count * itemsize(tensor.datatype));
      return tensor;
    }
    std::size_t bytes = 0;
    check(api_.GetStringTensorDataLength(value, &bytes));
    std::string joined(bytes, '\0');
    std::vector<std::size_t> starts(count);
    check(api_.GetStringTensorContent(value, joined.data(), bytes, starts.data(), count));
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t end = i + 1 < count ? starts[i + 1] : bytes;
      tensor.strings.push_back(joined.substr(starts[i], end - starts[i]));
    }
    return tensor;
  }

  Library library_;
  const ort::Api& api_;
  Handle<ort::Env> env_;
  Handle<ort::Session> session_;
  Handle<ort::MemoryInfo> memory_;
};

}  // namespace

std::unique_ptr<Model> load_onnx(const std::filesystem::path& file, const Signature& signature,
                                 const RuntimeOptions& options) {
  return std::make_unique<OnnxModel>(file, signature, options);
}

}  // namespace hardcase
