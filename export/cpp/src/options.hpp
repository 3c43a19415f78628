// The command line of hardcase-run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "hardcase/runtime.hpp"

namespace hardcase {

struct Options {
  std::filesystem::path package, input, output;
  std::optional<RuntimeKind> runtime;
  std::optional<std::size_t> batch_rows;
  RuntimeOptions runtime_options;
  bool golden = false, json = false, help = false;
};

// The command line is wrong.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

extern const char* const kHelp;

// Throws UsageError.
Options parse_options(const std::vector<std::string>& arguments);

}  // namespace hardcase
