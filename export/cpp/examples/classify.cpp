// A program of your own: load a package once, ask it many times.
#include <cstring>
#include <iostream>

#include "hardcase/error.hpp"
#include "hardcase/runtime.hpp"

int main(int argc, char** argv) try {
  if (argc != 2) return std::cerr << "classify PACKAGE\n", 2;
  const auto package = hardcase::Package::open(argv[1]);
  package.verify();  // before anything of it is run
  const auto model = hardcase::load(package, package.manifest().runtimes.at(0).kind);

  // One row of zeros for every input; -1 stands for a dimension that varies.
  hardcase::Tensors inputs;
  for (const auto& spec : package.manifest().signature.inputs) {
    hardcase::Tensor tensor{spec.datatype, spec.shape, {}, {}};
    for (auto& n : tensor.shape) n = n == -1 ? 1 : n;
    tensor.data.resize(hardcase::element_count(tensor.shape) * hardcase::itemsize(spec.datatype));
    inputs.emplace(spec.name, std::move(tensor));
  }
  for (const auto& [name, tensor] : model->run(inputs)) {
    std::cout << name << " " << hardcase::name_of(tensor.datatype) << " " << hardcase::to_string(tensor.shape);
    if (tensor.datatype == hardcase::Datatype::kFp32) {
      for (std::size_t i = 0; i < hardcase::element_count(tensor.shape); ++i) {
        float value;
        std::memcpy(&value, tensor.data.data() + i * sizeof value, sizeof value);
        std::cout << " " << value;
      }
    }
    std::cout << "\n";
  }
} catch (const hardcase::LoadError& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
