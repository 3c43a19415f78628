// What hardcase-run says, for people or as JSON.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "hardcase/compare.hpp"
#include "hardcase/package.hpp"

namespace hardcase {

// One output of one runtime at one batch size.
struct Comparison {
  std::string runtime, library, output;
  std::size_t batch_rows = 0;
  Difference difference;
};

struct Skipped {
  std::string runtime, reason;
};

struct Report {
  std::vector<Comparison> golden;
  std::vector<Skipped> skipped;
  std::string written_by;  // the library that made the output file; empty when none was asked for
  std::size_t written_rows = 0;

  bool passed() const;
};

std::string as_text(const Package& package, const Report& report);
std::string as_json(const Package& package, const Report& report);

}  // namespace hardcase
