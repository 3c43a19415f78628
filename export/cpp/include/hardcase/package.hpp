// A package folder: what its manifest says, whether its files are what the manifest says, and its golden cases.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardcase/tensor.hpp"

namespace hardcase {

enum class RuntimeKind { kOnnx, kTorchScript };
std::string_view name_of(RuntimeKind kind);
// Throws LoadError for a name that no runtime has.
RuntimeKind runtime_named(std::string_view name);

// One input or output as the model takes and gives it. -1 marks a dimension that varies. `decoded`: clients of a server
// send encoded images instead, and the server decodes them; this program takes what they are decoded to.
struct TensorSpec {
  std::string name;
  Datatype datatype = Datatype::kFp32;
  Shape shape;
  bool decoded = false;
};

// All tensors in the order of the model's own inputs and outputs. `batched`: axis 0 of each is the batch.
struct Signature {
  std::vector<TensorSpec> inputs, outputs;
  bool batched = true;
};

struct PackageFile {
  std::string path, sha256;
  std::uint64_t size_bytes = 0;
};

struct RuntimeFile {
  RuntimeKind kind = RuntimeKind::kOnnx;
  std::string path;
};

// |a - b| <= absolute + relative * |b|, elementwise.
struct Tolerance {
  double absolute = 1e-4, relative = 1e-3;
};

struct Manifest {
  std::string name, version;
  Signature signature;
  std::vector<RuntimeFile> runtimes;  // the first is preferred
  std::vector<PackageFile> files;
  std::optional<std::string> golden;
  Tolerance tolerance;
  std::int64_t max_batch_rows = 256;
};

// Real inputs and the outputs that every load of the package must reproduce.
struct Golden {
  Tensors inputs, outputs;
};

class Package {
 public:
  // Read a folder's manifest; nothing else is looked at. Throws LoadError: missing, damaged, of another schema version,
  // or a file path that is not a plain relative one.
  static Package open(const std::filesystem::path& folder);

  const Manifest& manifest() const { return manifest_; }
  // "sha256:" and the digest of the manifest's bytes; it covers every file, because the manifest does.
  const std::string& digest() const { return digest_; }

  // Hold every file against its size and SHA-256, and refuse files that the manifest does not name, links and devices.
  // Throws LoadError, naming the first file that differs.
  void verify() const;

  // The path of a runtime's entry file. Throws LoadError when the package has none.
  std::filesystem::path runtime_file(RuntimeKind kind) const;

  // The golden cases with the signature's datatypes, or nothing. Throws LoadError when they cannot be read.
  std::optional<Golden> golden() const;

 private:
  Package(std::filesystem::path folder, Manifest manifest, std::string digest)
      : folder_(std::move(folder)), manifest_(std::move(manifest)), digest_(std::move(digest)) {}

  std::filesystem::path folder_;
  Manifest manifest_;
  std::string digest_;
};

// Take arrays as the tensors of `specs`: UINT16 becomes BF16 where the signature says so, and what no spec names is left
// out. Throws LoadError: one is missing, has another datatype or shape, or their rows differ in number.
Tensors conform(Tensors arrays, const std::vector<TensorSpec>& specs, bool batched, std::string_view what);

}  // namespace hardcase
