// hardcase-run: runs a package without Python. `hardcase-run --help` explains it.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <utility>

#include "hardcase/error.hpp"
#include "hardcase/json.hpp"
#include "hardcase/npz.hpp"
#include "options.hpp"
#include "report.hpp"

namespace hardcase {
namespace {

enum ExitCode { kDone = 0, kDiffers = 1, kUsage = 2, kCannotUse = 3 };

std::vector<RuntimeKind> wanted(const Options& options, const Manifest& manifest) {
  if (options.runtime) return {*options.runtime};
  std::vector<RuntimeKind> kinds;
  for (const RuntimeFile& runtime : manifest.runtimes) kinds.push_back(runtime.kind);
  return kinds;
}

// Loads the runtimes in order and calls `use` with each; those that this machine lacks are noted, unless one was named.
// `use` says whether to go on. Throws LoadError when none could be used.
template <typename Use>
void for_each_model(const Options& options, const Package& package, Report& report, Use&& use) {
  bool used = false;
  for (const RuntimeKind kind : wanted(options, package.manifest())) {
    std::unique_ptr<Model> model;
    try {
      model = load(package, kind, options.runtime_options);
    } catch (const RuntimeMissing& missing) {
      if (options.runtime) throw;
      report.skipped.push_back({std::string(name_of(kind)), missing.what()});
      continue;
    }
    used = true;
    if (!use(kind, *model)) break;
  }
  if (!used) {
    throw LoadError("none of the package's runtimes can be used here" +
                    (report.skipped.empty() ? "" : ": " + report.skipped.front().reason));
  }
}

void run_golden(const Options& options, const Package& package, std::size_t rows, Report& report) {
  const std::optional<Golden> golden = package.golden();
  if (!golden) throw LoadError("the package has no golden cases");
  const bool batched = package.manifest().signature.batched;
  const auto total = batched ? static_cast<std::size_t>(golden->inputs.begin()->second.shape[0]) : 1;
  std::vector<std::size_t> sizes = {std::min(rows, total)};
  if (sizes[0] > 1) sizes.push_back(1);
  for_each_model(options, package, report, [&](RuntimeKind kind, const Model& model) {
    for (const std::size_t size : sizes) {
      const Tensors answers = model.run_in_batches(golden->inputs, size);
      for (const auto& [name, expected] : golden->outputs) {
        report.golden.push_back({std::string(name_of(kind)), model.library(), name, size,
                                 compare(answers.at(name), expected, package.manifest().tolerance)});
      }
    }
    return true;
  });
}

void run_input(const Options& options, const Package& package, std::size_t rows, Report& report) {
  const Tensors inputs = read_npz(options.input);
  for_each_model(options, package, report, [&](RuntimeKind, const Model& model) {
    const Tensors outputs = model.run_in_batches(inputs, rows);
    write_npz(options.output, outputs);
    report.written_by = model.library();
    report.written_rows =
        package.manifest().signature.batched ? static_cast<std::size_t>(outputs.begin()->second.shape[0]) : 1;
    return false;
  });
}

int run(const Options& options) {
  const Package package = Package::open(options.package);
  package.verify();
  const std::size_t rows =
      options.batch_rows.value_or(static_cast<std::size_t>(package.manifest().max_batch_rows));
  Report report;
  if (options.golden) run_golden(options, package, rows, report);
  if (!options.input.empty()) run_input(options, package, rows, report);
  std::fputs((options.json ? as_json(package, report) : as_text(package, report)).c_str(), stdout);
  return report.passed() ? kDone : kDiffers;
}

int fail(const Options& options, const std::string& text, ExitCode code) {
  std::fprintf(stderr, "hardcase-run: %s\n", text.c_str());
  if (options.json) std::printf("{\"error\": %s, \"exit_code\": %d}\n", json::quote(text).c_str(), code);
  return code;
}

}  // namespace
}  // namespace hardcase

int main(int argc, char** argv) {
  hardcase::Options options;
  try {
    options = hardcase::parse_options({argv + 1, argv + argc});
    if (options.help) return std::fputs(hardcase::kHelp, stdout) < 0 ? hardcase::kCannotUse : hardcase::kDone;
    return hardcase::run(options);
  } catch (const hardcase::UsageError& error) {
    return hardcase::fail(options, std::string(error.what()) + " (--help explains)", hardcase::kUsage);
  } catch (const std::exception& error) {  // LoadError, or the machine has no memory or no file handles left
    return hardcase::fail(options, error.what(), hardcase::kCannotUse);
  }
}
