#include "manifest.hpp"

#include <algorithm>

#include "hardcase/error.hpp"
#include "hardcase/json.hpp"

namespace hardcase {
namespace {

constexpr std::int64_t kSchemaVersion = 1;
constexpr std::size_t kMaxPathBytes = 512, kMaxPartBytes = 255;

// A plain relative path with '/': no "..", no root, no drive, nothing that is not printable ASCII.
bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  const bool plain = std::all_of(path.begin(), path.end(), [](char c) {
    return c >= 0x20 && c < 0x7F && std::string_view("\\:%*?\"<>|").find(c) == std::string_view::npos;
  });
  for (std::size_t start = 0; plain && start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == ".." || part.size() > kMaxPartBytes) return false;
    start = end + 1;
  }
  return plain;
}

std::string safe_path(const json::Value& value, const std::string& where) {
  const std::string& path = value.as_string(where);
  if (!is_safe_path(path)) throw LoadError(where + ": '" + printable(path) + "' is not a plain relative path");
  return path;
}

// An input that clients send as encoded images: the model's own tensor is what they are decoded to. The file's place in
// the shape, which is last, becomes the axes of the image.
void decode(TensorSpec& spec, const json::Value& declared) {
  const std::string where = "preprocess";
  const json::Array& size = declared.get("size", where).as_array("preprocess.size");
  const std::string& layout = declared.get("layout", where).as_string("preprocess.layout");
  if (size.size() != 2 || spec.shape.empty()) throw LoadError("preprocess.size: expected height and width");
  const std::int64_t height = size[0].as_integer("preprocess.size"), width = size[1].as_integer("preprocess.size");
  const std::int64_t channels = declared.get("colour", where).as_string("preprocess.colour") == "GREY" ? 1 : 3;
  Shape axes = {height, width};
  if (layout == "CHW") {
    axes = {channels, height, width};
  } else if (layout == "HWC") {
    axes = {height, width, channels};
  } else if (layout != "HW") {
    throw LoadError("preprocess.layout: unknown '" + printable(layout) + "'");
  }
  spec.datatype = datatype_named(declared.get("datatype", where).as_string("preprocess.datatype"));
  spec.shape.pop_back();
  spec.shape.insert(spec.shape.end(), axes.begin(), axes.end());
  spec.decoded = true;
}

std::vector<TensorSpec> specs(const json::Value& signature, const std::string& field) {
  const std::string where = "signature." + field;
  std::vector<TensorSpec> found;
  for (const json::Value& item : signature.get(field, "signature").as_array(where)) {
    TensorSpec spec;
    spec.name = item.get("name", where).as_string(where + ".name");
    spec.datatype = datatype_named(item.get("datatype", where).as_string(where + ".datatype"));
    for (const json::Value& n : item.get("shape", where).as_array(where + ".shape")) {
      spec.shape.push_back(n.as_integer(where + ".shape"));
      if (spec.shape.back() < -1 || spec.shape.back() == 0) throw LoadError(where + ".shape: not -1 and not positive");
    }
    if (const json::Value* declared = item.find("preprocess", where); declared != nullptr && !declared->is_null()) {
      decode(spec, *declared);
    }
    for (const TensorSpec& other : found) {
      if (other.name == spec.name) throw LoadError(where + ": the name '" + printable(spec.name) + "' occurs twice");
    }
    found.push_back(std::move(spec));
  }
  if (found.empty()) throw LoadError(where + ": there are none");
  return found;
}

Signature parse_signature(const json::Value& value) {
  Signature signature;
  signature.inputs = specs(value, "inputs");
  signature.outputs = specs(value, "outputs");
  if (const json::Value* batched = value.find("batched", "signature")) {
    signature.batched = batched->as_bool("signature.batched");
  }
  for (const auto* side : {&signature.inputs, &signature.outputs}) {
    for (const TensorSpec& spec : *side) {
      if (signature.batched && (spec.shape.empty() || spec.shape[0] != -1)) {
        throw LoadError("signature: '" + printable(spec.name) + "' of a batched model must start with a -1 dimension");
      }
    }
  }
  return signature;
}

}  // namespace

Manifest parse_manifest(std::string_view text) {
  const json::Value root = json::parse(text);
  Manifest manifest;
  const std::string where = "manifest";
  if (root.get("schema_version", where).as_integer("schema_version") != kSchemaVersion) {
    throw LoadError("the manifest has another schema version than " + std::to_string(kSchemaVersion));
  }
  manifest.name = root.get("name", where).as_string("name");
  manifest.version = root.get("version", where).as_string("version");
  manifest.signature = parse_signature(root.get("signature", where));
  for (const json::Value& file : root.get("files", where).as_array("files")) {
    const std::int64_t size = file.get("size_bytes", "files").as_integer("files.size_bytes");
    if (size < 0) throw LoadError("files.size_bytes: negative");
    manifest.files.push_back({safe_path(file.get("path", "files"), "files.path"),
                              file.get("sha256", "files").as_string("files.sha256"), static_cast<std::uint64_t>(size)});
  }
  const auto is_file = [&manifest](const std::string& path) {
    return std::any_of(manifest.files.begin(), manifest.files.end(), [&](const auto& f) { return f.path == path; });
  };
  for (const json::Value& runtime : root.get("runtimes", where).as_array("runtimes")) {
    manifest.runtimes.push_back({runtime_named(runtime.get("kind", "runtimes").as_string("runtimes.kind")),
                                 safe_path(runtime.get("path", "runtimes"), "runtimes.path")});
    if (!is_file(manifest.runtimes.back().path)) throw LoadError("runtimes.path: the package has no such file");
  }
  if (const json::Value* golden = root.find("golden", where); golden != nullptr && !golden->is_null()) {
    manifest.golden = safe_path(*golden, "golden");
    if (!is_file(*manifest.golden)) throw LoadError("golden: the package has no such file");
  }
  if (const json::Value* tolerance = root.find("golden_tolerance", where)) {
    manifest.tolerance.absolute = tolerance->get("absolute", "golden_tolerance").as_number("golden_tolerance.absolute");
    manifest.tolerance.relative = tolerance->get("relative", "golden_tolerance").as_number("golden_tolerance.relative");
  }
  if (const json::Value* rows = root.find("max_batch_rows", where)) {
    manifest.max_batch_rows = rows->as_integer("max_batch_rows");
    if (manifest.max_batch_rows < 1) throw LoadError("max_batch_rows: not positive");
  }
  return manifest;
}

}  // namespace hardcase
