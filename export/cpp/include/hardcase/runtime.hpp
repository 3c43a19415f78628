// Runtimes: a package's model, loaded and ready to be called.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hardcase/package.hpp"
#include "hardcase/tensor.hpp"

namespace hardcase {

struct RuntimeOptions {
  int threads = 1;          // inside one call
  std::string onnxruntime;  // its shared library; empty: see `load`
};

// One loaded model. Not for use from several threads at once: load one for each.
class Model {
 public:
  virtual ~Model() = default;
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The version of the library that runs the model, for reports.
  virtual std::string library() const = 0;

  // Run the model once. Checks inputs and outputs against the signature; a batched model takes any number of rows from
  // 1 on. Throws LoadError: a tensor does not fit, the number of rows changed, or the runtime failed.
  Tensors run(const Tensors& inputs) const;

  // The same in batches of at most `rows` rows, with the outputs joined. An unbatched model runs once.
  Tensors run_in_batches(const Tensors& inputs, std::size_t rows) const;

 protected:
  explicit Model(Signature signature) : signature_(std::move(signature)) {}
  // Tensors in the signature's order, checked by the caller.
  virtual std::vector<Tensor> call(const std::vector<const Tensor*>& inputs) const = 0;

  const Signature& signature() const { return signature_; }

 private:
  Signature signature_;
};

// Whether this program was built with a runtime.
bool is_built_with(RuntimeKind kind);

// Load a package's file for a runtime. Verify the package first: TorchScript is code.
//
// ONNX Runtime is loaded while the program runs: `options.onnxruntime`, else the environment variable
// HARDCASE_ONNXRUNTIME, else the library that was found when this was built, else libonnxruntime.so.1 of the system.
//
// Throws RuntimeMissing: the program was built without the runtime, or its library is not there or too old.
// Throws LoadError: the package has no such file, or the runtime cannot read it.
std::unique_ptr<Model> load(const Package& package, RuntimeKind kind, const RuntimeOptions& options = {});

}  // namespace hardcase
