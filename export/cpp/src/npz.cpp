#include "hardcase/npz.hpp"

#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <fstream>
#include <numeric>

#include "hardcase/error.hpp"
#include "zip.hpp"

static_assert(std::endian::native == std::endian::little, "arrays are read and written without swapping bytes");

namespace hardcase {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kSuffix = ".npy", kShapeSuffix = "#shape";
constexpr std::size_t kMaxRank = 64;

struct Descr {
  std::string_view name;
  Datatype datatype;
};

// NumPy's spelling of each datatype; BF16 has none and travels as <u2.
constexpr Descr kDescrs[] = {
    {"|b1", Datatype::kBool},  {"|u1", Datatype::kUint8},  {"<u2", Datatype::kUint16}, {"<u4", Datatype::kUint32},
    {"<u8", Datatype::kUint64}, {"|i1", Datatype::kInt8},   {"<i2", Datatype::kInt16},  {"<i4", Datatype::kInt32},
    {"<i8", Datatype::kInt64},  {"<f2", Datatype::kFp16},   {"<f4", Datatype::kFp32},   {"<f8", Datatype::kFp64}};

struct Header {
  Datatype datatype = Datatype::kFp32;
  bool fortran = false;
  Shape shape;
};

// The header of an .npy file: a Python dict literal with exactly the keys descr, fortran_order and shape.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Header parse() {
    Header header;
    int seen = 0;
    take('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      take(':');
      if (key == "descr") {
        header.datatype = datatype(), seen |= 1;
      } else if (key == "fortran_order") {
        header.fortran = boolean(), seen |= 2;
      } else if (key == "shape") {
        header.shape = shape(), seen |= 4;
      } else {
        fail();
      }
      if (!accept(',')) {
        take('}');
        break;
      }
    }
    space();
    if (seen != 7 || at_ != text_.size()) fail();
    return header;
  }

 private:
  [[noreturn]] static void fail() { throw LoadError("an array's header is not NumPy's"); }

  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void take(char c) {
    if (!accept(c)) fail();
  }
  std::string_view quoted() {
    space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    const std::size_t end = text_.find(quote, at_ + 1);
    if ((quote != '\'' && quote != '"') || end == std::string_view::npos) fail();
    const std::string_view found = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return found;
  }
  Datatype datatype() {
    space();
    if (at_ < text_.size() && text_[at_] == '[') throw LoadError("an array of records is no tensor");
    const std::string_view name = quoted();
    for (const Descr& known : kDescrs) {
      if (known.name == name) return known.datatype;
    }
    throw LoadError("an array has the dtype '" + printable(name) + "', which no tensor has");
  }
  bool boolean() {
    space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    fail();
  }
  Shape shape() {
    Shape found;
    take('(');
    while (!accept(')')) {
      space();
      std::int64_t n = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
      if (error != std::errc() || n < 0 || found.size() >= kMaxRank) fail();
      at_ = static_cast<std::size_t>(end - text_.data());
      found.push_back(n);
      if (!accept(',')) {
        take(')');
        break;
      }
    }
    return found;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// Column-major elements in row-major order.
std::vector<std::byte> row_major(std::string_view data, const Shape& shape, std::size_t item) {
  std::vector<std::byte> out(data.size());
  const std::size_t rank = shape.size(), count = data.size() / item;
  std::vector<std::size_t> stride(rank, 1), index(rank, 0);
  for (std::size_t d = 1; d < rank; ++d) stride[d] = stride[d - 1] * static_cast<std::size_t>(shape[d - 1]);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t from = std::inner_product(index.begin(), index.end(), stride.begin(), std::size_t{0});
    std::memcpy(out.data() + i * item, data.data() + from * item, item);
    for (std::size_t d = rank; d-- > 0;) {
      if (++index[d] < static_cast<std::size_t>(shape[d])) break;
      index[d] = 0;
    }
  }
  return out;
}

Tensor parse_npy(std::string_view file) {
  if (file.substr(0, kMagic.size()) != kMagic || file.size() < 12) throw LoadError("an array is not in NumPy's format");
  const auto byte = [&file](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(file[at])); };
  const std::size_t major = byte(6);
  if (major < 1 || major > 3) throw LoadError("an array has an unknown version of NumPy's format");
  const std::size_t start = major == 1 ? 10 : 12;
  std::size_t size = byte(8) | byte(9) << 8;
  if (major > 1) size |= byte(10) << 16 | byte(11) << 24;
  if (size > file.size() - start) throw LoadError("an array's header is cut off");
  const Header header = HeaderParser(file.substr(start, size)).parse();
  const std::string_view data = file.substr(start + size);
  const std::size_t item = itemsize(header.datatype);
  if (data.size() % item != 0 || data.size() / item != element_count(header.shape)) {
    throw LoadError("an array does not hold the elements of its shape " + to_string(header.shape));
  }
  Tensor tensor{header.datatype, header.shape, {}, {}};
  if (header.fortran && header.shape.size() > 1) {
    tensor.data = row_major(data, header.shape, item);
  } else {
    const auto* first = reinterpret_cast<const std::byte*>(data.data());
    tensor.data.assign(first, first + data.size());
  }
  return tensor;
}

std::string npy_of(Datatype datatype, const Shape& shape, const void* data, std::size_t size) {
  std::string_view descr = "<u2";
  for (const Descr& known : kDescrs) {
    if (known.datatype == datatype) descr = known.name;
  }
  std::string dims;
  for (const std::int64_t n : shape) dims += std::to_string(n) + ",";
  std::string header = "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (" + dims + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');  // NumPy aligns the data to 64 bytes
  std::string out(kMagic);
  out += std::string("\x01\x00", 2);
  out.push_back(static_cast<char>(header.size() & 0xFF)), out.push_back(static_cast<char>(header.size() >> 8));
  out += header;
  return out.append(static_cast<const char*>(data), size);
}

// The elements of BYTES from their stored form.
Tensor decode_strings(const Tensor& stored, const Tensor& shape) {
  if (stored.datatype != Datatype::kUint8 || shape.datatype != Datatype::kInt64 || shape.shape.size() != 1) {
    throw LoadError("BYTES elements are not stored as uint8 beside an int64 shape");
  }
  Tensor out{Datatype::kBytes, Shape(shape.data.size() / sizeof(std::int64_t)), {}, {}};
  if (out.shape.size() > kMaxRank) throw LoadError("BYTES elements have too many dimensions");
  std::memcpy(out.shape.data(), shape.data.data(), shape.data.size());
  const char* data = reinterpret_cast<const char*>(stored.data.data());
  for (std::size_t at = 0; at < stored.data.size();) {
    std::uint32_t length = 0;
    if (stored.data.size() - at < sizeof length) throw LoadError("a BYTES element's length is cut off");
    std::memcpy(&length, data + at, sizeof length);
    at += sizeof length;
    if (length > stored.data.size() - at) throw LoadError("a BYTES element reaches past the end");
    out.strings.emplace_back(data + at, length);
    at += length;
  }
  if (out.strings.size() != element_count(out.shape)) throw LoadError("BYTES elements do not fit their shape");
  return out;
}

}  // namespace

Tensors parse_npz(std::string_view archive, std::size_t max_bytes) {
  Tensors plain;
  for (const auto& [member, data] : zip::read(archive, max_bytes)) {
    if (!member.ends_with(kSuffix)) throw LoadError("the array file holds something else than arrays");
    const std::string name = member.substr(0, member.size() - kSuffix.size());
    try {
      plain.emplace(name, parse_npy(data));
    } catch (const LoadError& problem) {
      throw LoadError("'" + printable(name) + "': " + problem.what());
    }
  }
  Tensors out;
  for (auto& [name, tensor] : plain) {
    if (name.ends_with(kShapeSuffix)) continue;
    const auto shape = plain.find(name + std::string(kShapeSuffix));
    out.emplace(name, shape == plain.end() ? std::move(tensor) : decode_strings(tensor, shape->second));
  }
  return out;
}

Tensors read_npz(const std::filesystem::path& path, std::size_t max_bytes) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw LoadError("the array file cannot be read: " + error.message());
  if (size > max_bytes) throw LoadError("the array file is larger than " + std::to_string(max_bytes) + " bytes");
  std::string archive(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(archive.data(), static_cast<std::streamsize>(size))) throw LoadError("the array file cannot be read");
  return parse_npz(archive, max_bytes);
}

void write_npz(const std::filesystem::path& path, const Tensors& tensors) {
  std::map<std::string, std::string> members;
  for (const auto& [name, tensor] : tensors) {
    const std::string file = name + std::string(kSuffix);
    if (tensor.datatype != Datatype::kBytes) {
      members[file] = npy_of(tensor.datatype, tensor.shape, tensor.data.data(), tensor.data.size());
      continue;
    }
    std::string stored;
    for (const std::string& element : tensor.strings) {
      const auto length = static_cast<std::uint32_t>(element.size());
      stored.append(reinterpret_cast<const char*>(&length), sizeof length) += element;
    }
    const auto rank = static_cast<std::int64_t>(tensor.shape.size());
    members[file] = npy_of(Datatype::kUint8, {static_cast<std::int64_t>(stored.size())}, stored.data(), stored.size());
    members[name + std::string(kShapeSuffix) + std::string(kSuffix)] =
        npy_of(Datatype::kInt64, {rank}, tensor.shape.data(), tensor.shape.size() * sizeof(std::int64_t));
  }
  const std::string archive = zip::write(members);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(archive.data(), static_cast<std::streamsize>(archive.size())).flush();
  if (!file) throw LoadError("the output file cannot be written");
}

}  // namespace hardcase
