#include "hardcase/compare.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace hardcase {
namespace {

template <typename T>
T element(const Tensor& tensor, std::size_t i) {
  T value;
  std::memcpy(&value, tensor.data.data() + i * sizeof(T), sizeof(T));
  return value;
}

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  double value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  }
  return bits >> 15 ? -value : value;
}

double as_double(const Tensor& tensor, std::size_t i) {
  switch (tensor.datatype) {
    case Datatype::kBool:
    case Datatype::kUint8: return element<std::uint8_t>(tensor, i);
    case Datatype::kUint16: return element<std::uint16_t>(tensor, i);
    case Datatype::kUint32: return element<std::uint32_t>(tensor, i);
    case Datatype::kUint64: return static_cast<double>(element<std::uint64_t>(tensor, i));
    case Datatype::kInt8: return element<std::int8_t>(tensor, i);
    case Datatype::kInt16: return element<std::int16_t>(tensor, i);
    case Datatype::kInt32: return element<std::int32_t>(tensor, i);
    case Datatype::kInt64: return static_cast<double>(element<std::int64_t>(tensor, i));
    case Datatype::kFp16: return from_half(element<std::uint16_t>(tensor, i));
    case Datatype::kBf16:  // its bits are the upper half of a binary32
      return std::bit_cast<float>(static_cast<std::uint32_t>(element<std::uint16_t>(tensor, i)) << 16);
    case Datatype::kFp32: return element<float>(tensor, i);
    case Datatype::kFp64: return element<double>(tensor, i);
    case Datatype::kBytes: break;
  }
  return 0;
}

}  // namespace

Difference compare(const Tensor& got, const Tensor& expected, const Tolerance& tolerance) {
  Difference found;
  if (got.datatype != expected.datatype) {
    found.problem = std::string(name_of(got.datatype)) + " instead of " + std::string(name_of(expected.datatype));
    return found;
  }
  if (got.shape != expected.shape) {
    found.problem = "shape " + to_string(got.shape) + " instead of " + to_string(expected.shape);
    return found;
  }
  found.elements = element_count(expected.shape);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const bool exact = !is_float(expected.datatype);
  const std::size_t item = itemsize(expected.datatype);
  for (std::size_t i = 0; i < found.elements; ++i) {
    if (expected.datatype == Datatype::kBytes) {
      if (got.strings[i] != expected.strings[i]) ++found.out_of_tolerance, found.max_absolute = kInfinity;
      continue;
    }
    const double a = as_double(got, i), b = as_double(expected, i);
    double apart = a == b || (std::isnan(a) && std::isnan(b)) ? 0.0 : std::abs(a - b);
    if (std::isnan(apart)) apart = kInfinity;
    const double limit = tolerance.absolute + tolerance.relative * std::abs(b);
    // 64-bit integers that differ may be one double
    const bool same = exact ? std::memcmp(got.data.data() + i * item, expected.data.data() + i * item, item) == 0
                            : apart == 0 || (std::isfinite(limit) && apart <= limit);
    if (!same) ++found.out_of_tolerance;
    found.max_absolute = std::max(found.max_absolute, apart);
    if (b != 0 && !std::isnan(b)) {
      const double relative = apart == 0 ? 0 : apart / std::abs(b);
      found.max_relative = std::max(found.max_relative, std::isnan(relative) ? kInfinity : relative);
    }
  }
  return found;
}

}  // namespace hardcase
