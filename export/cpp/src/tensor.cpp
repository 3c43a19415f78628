#include "hardcase/tensor.hpp"

#include <algorithm>
#include <array>

#include "hardcase/error.hpp"

namespace hardcase {
namespace {

struct Fact {
  std::string_view name;
  std::size_t itemsize;
};

// In the order of Datatype.
constexpr std::array<Fact, 14> kFacts = {{{"BOOL", 1},
                                          {"UINT8", 1},
                                          {"UINT16", 2},
                                          {"UINT32", 4},
                                          {"UINT64", 8},
                                          {"INT8", 1},
                                          {"INT16", 2},
                                          {"INT32", 4},
                                          {"INT64", 8},
                                          {"FP16", 2},
                                          {"BF16", 2},
                                          {"FP32", 4},
                                          {"FP64", 8},
                                          {"BYTES", 0}}};
constexpr std::size_t kMaxElements = std::size_t{1} << 40;

}  // namespace

std::string printable(std::string_view text, std::size_t longest) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      out.push_back(c);
    } else {
      out += "\\x", out.push_back(kHex[byte >> 4]), out.push_back(kHex[byte & 15]);
    }
  }
  return text.size() > longest ? out + "..." : out;
}

std::string_view name_of(Datatype datatype) { return kFacts[static_cast<std::size_t>(datatype)].name; }

Datatype datatype_named(std::string_view name) {
  const auto found = std::find_if(kFacts.begin(), kFacts.end(), [&](const Fact& f) { return f.name == name; });
  if (found == kFacts.end()) throw LoadError("unknown datatype '" + printable(name) + "'");
  return static_cast<Datatype>(found - kFacts.begin());
}

std::size_t itemsize(Datatype datatype) { return kFacts[static_cast<std::size_t>(datatype)].itemsize; }

bool is_float(Datatype datatype) {
  return datatype == Datatype::kFp16 || datatype == Datatype::kBf16 || datatype == Datatype::kFp32 ||
         datatype == Datatype::kFp64;
}

std::string to_string(const Shape& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::size_t element_count(const Shape& shape) {
  std::size_t count = 1;
  for (const std::int64_t n : shape) {
    if (n < 0) throw LoadError("a shape has a negative dimension: " + to_string(shape));
    const auto size = static_cast<std::size_t>(n);
    if (size > kMaxElements || (size != 0 && count > kMaxElements / size)) {
      throw LoadError("a shape has too many elements: " + to_string(shape));
    }
    count *= size;
  }
  return count;
}

Tensor Tensor::rows(std::size_t first, std::size_t last) const {
  Tensor out{datatype, shape, {}, {}};
  out.shape.at(0) = static_cast<std::int64_t>(last - first);
  Shape row(shape.begin() + 1, shape.end());
  const std::size_t each = element_count(row);
  if (datatype == Datatype::kBytes) {
    out.strings.assign(strings.begin() + static_cast<std::ptrdiff_t>(first * each),
                       strings.begin() + static_cast<std::ptrdiff_t>(last * each));
  } else {
    const std::size_t bytes = each * itemsize(datatype);
    out.data.assign(data.begin() + static_cast<std::ptrdiff_t>(first * bytes),
                    data.begin() + static_cast<std::ptrdiff_t>(last * bytes));
  }
  return out;
}

void Tensor::append(const Tensor& other) {
  if (other.datatype != datatype || other.shape.empty() || other.shape.size() != shape.size() ||
      !std::equal(shape.begin() + 1, shape.end(), other.shape.begin() + 1)) {
    throw LoadError("batches differ in datatype or shape: " + to_string(shape) + " and " + to_string(other.shape));
  }
  shape[0] += other.shape[0];
  data.insert(data.end(), other.data.begin(), other.data.end());
  strings.insert(strings.end(), other.strings.begin(), other.strings.end());
}

}  // namespace hardcase
