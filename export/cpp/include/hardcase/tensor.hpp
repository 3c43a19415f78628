// Tensors as the Open Inference Protocol knows them: a datatype, a shape, and elements in row-major order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hardcase {

// Element types by their names in the protocol. BF16 is held as its 16 bits, BYTES as strings of any bytes.
enum class Datatype {
  kBool, kUint8, kUint16, kUint32, kUint64, kInt8, kInt16, kInt32, kInt64, kFp16, kBf16, kFp32, kFp64, kBytes
};

std::string_view name_of(Datatype datatype);
// Throws LoadError for a name that the protocol does not have.
Datatype datatype_named(std::string_view name);
// Bytes an element; 0 for BYTES.
std::size_t itemsize(Datatype datatype);
bool is_float(Datatype datatype);

using Shape = std::vector<std::int64_t>;

// "[-1, 10]"
std::string to_string(const Shape& shape);
// The number of elements. Throws LoadError for a negative dimension or more than 2^40 elements.
std::size_t element_count(const Shape& shape);

struct Tensor {
  Datatype datatype = Datatype::kFp32;
  Shape shape;
  std::vector<std::byte> data;       // element_count(shape) * itemsize(datatype) bytes; empty for BYTES
  std::vector<std::string> strings;  // element_count(shape) elements of BYTES; else empty

  // Rows `first` to `last` (not included) along axis 0.
  Tensor rows(std::size_t first, std::size_t last) const;
  // Append the rows of another tensor. Throws LoadError when datatypes or inner shapes differ.
  void append(const Tensor& other);
};

using Tensors = std::map<std::string, Tensor>;

}  // namespace hardcase
