// The one file that is about libtorch. It includes as little of it as it can: the headers take most of the build's time.
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <array>
#include <cstring>

#include "hardcase/error.hpp"
#include "runtimes.hpp"

namespace hardcase {
namespace {

// In the order of Datatype; BYTES has none.
constexpr std::array<at::ScalarType, 13> kScalarTypes = {
    at::kBool,  at::kByte, at::kUInt16, at::kUInt32,   at::kUInt64, at::kChar,  at::kShort,
    at::kInt,   at::kLong, at::kHalf,   at::kBFloat16, at::kFloat,  at::kDouble};

Datatype datatype_of(at::ScalarType type) {
  for (std::size_t i = 0; i < kScalarTypes.size(); ++i) {
    if (kScalarTypes[i] == type) return static_cast<Datatype>(i);
  }
  throw LoadError(std::string("an output has an element type that the protocol cannot carry: ") + c10::toString(type));
}

// A copy, because a module may write into its input.
at::Tensor torch_of(const Tensor& tensor) {
  if (tensor.datatype == Datatype::kBytes) throw LoadError("TorchScript takes no BYTES");
  const auto type = kScalarTypes[static_cast<std::size_t>(tensor.datatype)];
  return at::from_blob(const_cast<std::byte*>(tensor.data.data()), tensor.shape, at::TensorOptions(type)).clone();
}

Tensor tensor_of(const at::Tensor& answer) {
  const at::Tensor t = answer.cpu().contiguous();
  Tensor tensor{datatype_of(t.scalar_type()), Shape(t.sizes().begin(), t.sizes().end()), {}, {}};
  tensor.data.resize(t.nbytes());
  if (t.nbytes() > 0) std::memcpy(tensor.data.data(), t.const_data_ptr(), t.nbytes());
  return tensor;
}

// The tensors of an answer in order: a tensor, or a tuple, list or dict of them, as the exporter flattens them.
void flatten(const c10::IValue& value, std::vector<Tensor>& out) {
  if (value.isTensor()) {
    out.push_back(tensor_of(value.toTensor()));
  } else if (value.isTuple()) {
    for (const c10::IValue& item : value.toTupleRef().elements()) flatten(item, out);
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) flatten(item, out);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) flatten(entry.value(), out);
  } else {
    throw LoadError("the model answered a " + value.tagKind() + ", which is no tensor");
  }
}

// What libtorch throws is a first line for people, then a trace of its own source.
[[noreturn]] void rethrow(const std::exception& error) {
  const std::string_view text = error.what();
  throw LoadError("libtorch: " + printable(text.substr(0, text.find('\n')), 400));
}

class TorchScriptModel final : public Model {
 public:
  TorchScriptModel(const std::filesystem::path& file, const Signature& signature, const RuntimeOptions& options)
      : Model(signature) {
    at::set_num_threads(options.threads);
    try {
      const c10::InferenceMode guard;
      module_ = torch::jit::load(file.string(), at::kCPU);
      module_.eval();
    } catch (const std::exception& error) {
      rethrow(error);
    }
  }

  std::string library() const override { return "libtorch " TORCH_VERSION; }

 protected:
  std::vector<Tensor> call(const std::vector<const Tensor*>& inputs) const override {
    try {
      const c10::InferenceMode guard;
      std::vector<c10::IValue> arguments;
      for (const Tensor* input : inputs) arguments.emplace_back(torch_of(*input));
      std::vector<Tensor> out;
      flatten(module_.forward(std::move(arguments)), out);
      return out;
    } catch (const LoadError&) {
      throw;
    } catch (const std::exception& error) {
      rethrow(error);
    }
  }

 private:
  mutable torch::jit::Module module_;  // running it counts runs, to choose what to compile
};

}  // namespace

std::unique_ptr<Model> load_torchscript(const std::filesystem::path& file, const Signature& signature,
                                        const RuntimeOptions& options) {
  return std::make_unique<TorchScriptModel>(file, signature, options);
}

}  // namespace hardcase
