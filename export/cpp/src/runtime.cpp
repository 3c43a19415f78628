#include "hardcase/runtime.hpp"

#include <algorithm>

#include "hardcase/error.hpp"
#include "runtimes.hpp"

namespace hardcase {

Tensors Model::run(const Tensors& inputs) const {
  const Tensors given = conform(inputs, signature_.inputs, signature_.batched, "input");
  std::vector<const Tensor*> ordered;
  for (const TensorSpec& spec : signature_.inputs) ordered.push_back(&given.at(spec.name));
  std::vector<Tensor> answers = call(ordered);
  if (answers.size() != signature_.outputs.size()) {
    throw LoadError("the model answered " + std::to_string(answers.size()) + " outputs, the signature says " +
                    std::to_string(signature_.outputs.size()));
  }
  Tensors named;
  for (std::size_t i = 0; i < answers.size(); ++i) named.emplace(signature_.outputs[i].name, std::move(answers[i]));
  named = conform(std::move(named), signature_.outputs, signature_.batched, "output");
  const std::int64_t rows = signature_.batched ? ordered[0]->shape[0] : 0;
  if (signature_.batched && named.begin()->second.shape[0] != rows) {
    throw LoadError("the model answered " + std::to_string(named.begin()->second.shape[0]) + " rows for " +
                    std::to_string(rows));
  }
  return named;
}

Tensors Model::run_in_batches(const Tensors& inputs, std::size_t rows) const {
  if (!signature_.batched) return run(inputs);
  const Tensors given = conform(inputs, signature_.inputs, true, "input");
  const auto total = static_cast<std::size_t>(given.begin()->second.shape[0]);
  if (total == 0 || rows == 0) throw LoadError("there are no rows to run");
  Tensors joined;
  for (std::size_t first = 0; first < total; first += rows) {
    Tensors part;
    for (const auto& [name, tensor] : given) part.emplace(name, tensor.rows(first, std::min(first + rows, total)));
    for (auto& [name, tensor] : run(part)) {
      const auto [found, is_new] = joined.try_emplace(name, tensor);
      if (!is_new) found->second.append(tensor);
    }
  }
  return joined;
}

bool is_built_with([[maybe_unused]] RuntimeKind kind) {
#ifdef HARDCASE_TORCHSCRIPT
  return true;
#else
  return kind != RuntimeKind::kTorchScript;
#endif
}

std::unique_ptr<Model> load(const Package& package, RuntimeKind kind, const RuntimeOptions& options) {
  const std::filesystem::path file = package.runtime_file(kind);
  if (kind == RuntimeKind::kOnnx) return load_onnx(file, package.manifest().signature, options);
#ifdef HARDCASE_TORCHSCRIPT
  return load_torchscript(file, package.manifest().signature, options);
#else
  throw RuntimeMissing("this program was built without libtorch: build it with -DTORCH_ROOT=...");
#endif
}

}  // namespace hardcase
