#include "hardcase/package.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "hardcase/error.hpp"
#include "hardcase/npz.hpp"
#include "hardcase/sha256.hpp"
#include "manifest.hpp"

namespace hardcase {
namespace {

namespace fs = std::filesystem;
constexpr const char* kManifestFile = "manifest.json";
constexpr std::size_t kMaxManifestBytes = std::size_t{4} << 20;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw LoadError("file '" + printable(path) + "' " + why);
}

// A regular file below `folder` that has one name, opened without following a link on the way.
Descriptor open_beneath(const fs::path& folder, const std::string& path) {
  Descriptor at(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0) throw LoadError(std::string("the package folder cannot be opened: ") + std::strerror(errno));
  std::size_t start = 0;
  for (std::size_t slash; (slash = path.find('/', start)) != std::string::npos; start = slash + 1) {
    const std::string parent = path.substr(start, slash - start);
    at = Descriptor(::openat(at.get(), parent.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (at.get() < 0) refuse(path, std::string("cannot be opened: ") + std::strerror(errno));
  }
  // O_NONBLOCK, because opening a pipe would wait for somebody to write to it
  Descriptor file(::openat(at.get(), path.c_str() + start, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.get() < 0) refuse(path, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1) {
    refuse(path, "is not a regular file with one name");
  }
  return file;
}

template <typename Take>
void read_all(const Descriptor& file, const std::string& path, Take&& take) {
  std::array<char, 1 << 16> buffer{};
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got == 0) return;
    if (got > 0) {
      take(buffer.data(), static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    }
  }
}

std::string sha256_of(std::string_view data) {
  Sha256 sum;
  sum.update(data.data(), data.size());
  return sum.hex();
}

void check(const fs::path& folder, const PackageFile& expected) {
  const Descriptor file = open_beneath(folder, expected.path);
  Sha256 sum;
  std::uint64_t size = 0;
  read_all(file, expected.path, [&](const char* data, std::size_t n) { sum.update(data, n), size += n; });
  if (size != expected.size_bytes) {
    refuse(expected.path, "has " + std::to_string(size) + " bytes, the manifest says " +
                              std::to_string(expected.size_bytes));
  }
  if (sum.hex() != expected.sha256) refuse(expected.path, "does not have the digest that the manifest says");
}

// Relative paths, with '/', of everything below a folder that is no folder.
std::set<std::string> walk(const fs::path& folder) {
  std::set<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error), end;
  for (; !error && at != end; at.increment(error)) {
    const fs::file_status status = at->symlink_status(error);
    if (error) break;
    const std::string path = at->path().lexically_relative(folder).generic_string();
    if (status.type() == fs::file_type::regular) {
      found.insert(path);
    } else if (status.type() != fs::file_type::directory) {
      refuse(path, "is not a regular file");
    }
  }
  if (error) throw LoadError("the package folder cannot be listed: " + error.message());
  return found;
}

bool fits(const Shape& shape, const Shape& spec) {
  return std::equal(shape.begin(), shape.end(), spec.begin(), spec.end(),
                    [](std::int64_t n, std::int64_t s) { return s == -1 || s == n; });
}

}  // namespace

std::string_view name_of(RuntimeKind kind) { return kind == RuntimeKind::kOnnx ? "onnx" : "torchscript"; }

RuntimeKind runtime_named(std::string_view name) {
  for (const RuntimeKind kind : {RuntimeKind::kOnnx, RuntimeKind::kTorchScript}) {
    if (name_of(kind) == name) return kind;
  }
  throw LoadError("unknown runtime '" + printable(name) + "'");
}

Package Package::open(const fs::path& folder) {
  std::string text;
  read_all(open_beneath(folder, kManifestFile), kManifestFile, [&](const char* data, std::size_t n) {
    if (text.append(data, n).size() > kMaxManifestBytes) refuse(kManifestFile, "is larger than 4 MiB");
  });
  try {
    return Package(folder, parse_manifest(text), "sha256:" + sha256_of(text));
  } catch (const LoadError& problem) {
    throw LoadError(std::string(kManifestFile) + ": " + problem.what());
  }
}

void Package::verify() const {
  std::set<std::string> found = walk(folder_), named;
  for (const PackageFile& file : manifest_.files) {
    if (!named.insert(file.path).second) throw LoadError("the manifest names a file twice");
  }
  for (const std::string& path : found) {
    if (path != kManifestFile && !named.contains(path)) refuse(path, "is not in the manifest");
  }
  for (const PackageFile& file : manifest_.files) {
    if (!found.contains(file.path)) refuse(file.path, "is missing");
    check(folder_, file);
  }
}

fs::path Package::runtime_file(RuntimeKind kind) const {
  for (const RuntimeFile& runtime : manifest_.runtimes) {
    if (runtime.kind == kind) return folder_ / runtime.path;
  }
  throw LoadError("the package has no file for the runtime " + std::string(name_of(kind)));
}

std::optional<Golden> Package::golden() const {
  if (!manifest_.golden) return std::nullopt;
  try {
    const Signature& signature = manifest_.signature;
    Tensors arrays = read_npz(folder_ / *manifest_.golden), inputs, outputs;
    for (const TensorSpec& spec : signature.inputs) {  // of encoded images, what they were decoded to is there as well
      const auto found = arrays.find((spec.decoded ? "model/" : "in/") + spec.name);
      if (found != arrays.end()) inputs.emplace(spec.name, std::move(found->second));
    }
    for (auto& [key, tensor] : arrays) {
      if (key.starts_with("out/")) outputs.emplace(key.substr(4), std::move(tensor));
    }
    std::vector<TensorSpec> kept;  // a package may keep fewer outputs than the model has
    for (const TensorSpec& spec : signature.outputs) {
      if (outputs.contains(spec.name)) kept.push_back(spec);
    }
    return Golden{conform(std::move(inputs), signature.inputs, signature.batched, "input"),
                  conform(std::move(outputs), kept, signature.batched, "output")};
  } catch (const LoadError& problem) {
    throw LoadError(std::string("golden cases: ") + problem.what());
  }
}

Tensors conform(Tensors arrays, const std::vector<TensorSpec>& specs, bool batched, std::string_view what) {
  Tensors out;
  std::optional<std::int64_t> rows;
  for (const TensorSpec& spec : specs) {
    const std::string label = std::string(what) + " '" + printable(spec.name) + "'";
    const auto found = arrays.find(spec.name);
    if (found == arrays.end()) throw LoadError(label + " is missing");
    Tensor tensor = std::move(found->second);
    if (tensor.datatype == Datatype::kUint16 && spec.datatype == Datatype::kBf16) tensor.datatype = Datatype::kBf16;
    if (tensor.datatype != spec.datatype || !fits(tensor.shape, spec.shape)) {
      throw LoadError(label + " is " + std::string(name_of(tensor.datatype)) + " " + to_string(tensor.shape) +
                      ", the signature says " + std::string(name_of(spec.datatype)) + " " + to_string(spec.shape) +
                      (spec.decoded ? " (the decoded images)" : ""));
    }
    if (batched && rows.value_or(tensor.shape[0]) != tensor.shape[0]) {
      throw LoadError(label + " has " + std::to_string(tensor.shape[0]) + " rows, another has " + std::to_string(*rows));
    }
    if (batched) rows = tensor.shape[0];
    out.emplace(spec.name, std::move(tensor));
  }
  return out;
}

}  // namespace hardcase
