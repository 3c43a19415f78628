// Are two tensors the same within a tolerance? The same rules as the exporter's parity gate and as serving's check.
#pragma once

#include <cstddef>
#include <string>

#include "hardcase/package.hpp"
#include "hardcase/tensor.hpp"

namespace hardcase {

struct Difference {
  std::size_t elements = 0, out_of_tolerance = 0;
  double max_absolute = 0;  // largest |a - b|; infinity where only one of them is finite
  double max_relative = 0;  // largest |a - b| / |b| over b != 0
  std::string problem;      // datatype or shape differ: nothing was compared

  bool passed() const { return problem.empty() && out_of_tolerance == 0; }
};

// Floats: |got - expected| <= absolute + relative * |expected|; NaN equals NaN, an infinity equals the same infinity.
// Everything else: equal. For integers the differences are still measured.
Difference compare(const Tensor& got, const Tensor& expected, const Tolerance& tolerance);

}  // namespace hardcase
