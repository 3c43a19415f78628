#include "options.hpp"

#include <charconv>

#include "hardcase/error.hpp"

namespace hardcase {

const char* const kHelp =
    R"(hardcase-run PACKAGE [--golden] [--input IN.npz --output OUT.npz] [options]

Reads a Hardcase package, holds every file against the manifest's SHA-256, and

  --golden              runs the golden cases, all rows together and one by one, and compares the outputs with the
                        stored ones; without --runtime with every runtime that the package and this machine have
  --input FILE          runs the rows of an .npz file whose arrays have the names of the inputs
  --output FILE         where the outputs go, as .npz

Without any of these it only checks the files. Options:

  --runtime NAME        onnx or torchscript; for --input the default is the package's first that can run here
  --batch ROWS          rows of one call at most; default: the package's max_batch_rows
  --threads N           threads inside one call; default: 1
  --onnxruntime FILE    ONNX Runtime's shared library; default: $HARDCASE_ONNXRUNTIME, then what was found at build time
  --json                one JSON document on standard output
  --help                this text

Exit codes: 0 done, golden cases reproduced; 1 golden cases differ; 2 wrong arguments; 3 the package, an array file or a
runtime cannot be used, the reason is on standard error.

TorchScript is a program and runs with your rights: only run packages that you trust.
)";

namespace {

std::size_t positive(const std::string& name, const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 1'000'000) {
    throw UsageError(name + ": expected a number from 1 to 1000000, got '" + printable(text) + "'");
  }
  return value;
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i], value;
    const std::size_t equals = name.find('=');
    const bool attached = name.starts_with("--") && equals != std::string::npos;
    if (attached) value = name.substr(equals + 1), name.resize(equals);
    const auto argument = [&]() -> const std::string& {
      if (attached) return value;
      if (i + 1 >= arguments.size()) throw UsageError(name + ": a value is missing");
      return arguments[++i];
    };
    if (name == "--golden") {
      options.golden = true;
    } else if (name == "--json") {
      options.json = true;
    } else if (name == "--help" || name == "-h") {
      options.help = true;
    } else if (name == "--input") {
      options.input = argument();
    } else if (name == "--output") {
      options.output = argument();
    } else if (name == "--runtime") {
      const std::string& kind = argument();
      if (kind != "onnx" && kind != "torchscript") throw UsageError("--runtime: expected onnx or torchscript");
      options.runtime = runtime_named(kind);
    } else if (name == "--batch") {
      options.batch_rows = positive(name, argument());
    } else if (name == "--threads") {
      options.runtime_options.threads = static_cast<int>(positive(name, argument()));
    } else if (name == "--onnxruntime") {
      options.runtime_options.onnxruntime = argument();
    } else if (name.starts_with("-")) {
      throw UsageError("unknown option '" + printable(name) + "'");
    } else if (!options.package.empty()) {
      throw UsageError("more than one package: '" + printable(name) + "'");
    } else {
      options.package = name;
    }
  }
  if (options.help) return options;
  if (options.package.empty()) throw UsageError("which package?");
  if (options.input.empty() != options.output.empty()) throw UsageError("--input and --output belong together");
  return options;
}

}  // namespace hardcase
