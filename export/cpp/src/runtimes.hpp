// How each runtime loads its file; `hardcase::load` chooses.
#pragma once

#include <filesystem>
#include <memory>

#include "hardcase/runtime.hpp"

namespace hardcase {

std::unique_ptr<Model> load_onnx(const std::filesystem::path& file, const Signature& signature,
                                 const RuntimeOptions& options);
std::unique_ptr<Model> load_torchscript(const std::filesystem::path& file, const Signature& signature,
                                        const RuntimeOptions& options);

}  // namespace hardcase
