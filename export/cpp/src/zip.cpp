#include "zip.hpp"

#include <zlib.h>

#include <cstdint>
#include <limits>

#include "hardcase/error.hpp"

namespace hardcase::zip {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEndOfDirectory = 0x06054b50;
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kMaxComment = 65535;
constexpr std::uint16_t kStored = 0, kDeflated = 8, kEncrypted = 1, kUtf8Names = 0x0800;
constexpr std::uint16_t kVersion = 20, kDate1980 = 0x0021;
constexpr std::size_t kMaxMembers = 4096;

[[noreturn]] void damaged(const char* what) { throw LoadError(std::string("not a readable archive: ") + what); }

// Little-endian numbers at checked positions.
class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}

  std::string_view bytes(std::size_t at, std::size_t size) const {
    if (at > data_.size() || size > data_.size() - at) damaged("it is cut off");
    return data_.substr(at, size);
  }
  std::uint16_t u16(std::size_t at) const { return static_cast<std::uint16_t>(number(bytes(at, 2))); }
  std::uint32_t u32(std::size_t at) const { return number(bytes(at, 4)); }

 private:
  static std::uint32_t number(std::string_view b) {
    std::uint32_t value = 0;
    for (std::size_t i = b.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(b[i]);
    return value;
  }

  std::string_view data_;
};

std::uint32_t crc_of(std::string_view data) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<z_size_t>(data.size())));
}

std::string inflated(std::string_view packed, std::size_t size) {
  std::string out(size, '\0');
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) damaged("no memory to inflate it");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(size);
  const int result = inflate(&stream, Z_FINISH);
  const bool whole = result == Z_STREAM_END && stream.total_out == size && stream.avail_in == 0;
  inflateEnd(&stream);
  if (!whole) damaged("a member does not inflate to its size");
  return out;
}

std::size_t find_end(const Reader& reader, std::string_view archive) {
  if (archive.size() < kEndSize) damaged("it is too short");
  const std::size_t last = archive.size() - kEndSize;
  for (std::size_t back = 0; back <= kMaxComment && back <= last; ++back) {
    const std::size_t at = last - back;
    if (reader.u32(at) == kEndOfDirectory && reader.u16(at + 20) == back) return at;
  }
  damaged("it has no directory");
}

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> 8 * i & 0xFF));
}

}  // namespace

std::map<std::string, std::string> read(std::string_view archive, std::size_t max_bytes) {
  const Reader reader(archive);
  const std::size_t end = find_end(reader, archive);
  const std::size_t count = reader.u16(end + 10);
  if (count > kMaxMembers) damaged("too many members");
  std::size_t at = reader.u32(end + 16);
  std::map<std::string, std::string> members;
  std::size_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (reader.u32(at) != kCentralHeader) damaged("its directory is damaged");
    const std::uint16_t flags = reader.u16(at + 8), method = reader.u16(at + 10);
    const std::uint32_t crc = reader.u32(at + 16), packed_size = reader.u32(at + 20), size = reader.u32(at + 24);
    const std::size_t name_size = reader.u16(at + 28), local = reader.u32(at + 42);
    const std::string name(reader.bytes(at + kCentralSize, name_size));
    at += kCentralSize + name_size + reader.u16(at + 30) + reader.u16(at + 32);
    if (flags & kEncrypted) damaged("a member is encrypted");
    if (size == 0xFFFFFFFF || packed_size == 0xFFFFFFFF || local == 0xFFFFFFFF) damaged("ZIP64 is not supported");
    if (size > max_bytes - total) damaged("it inflates past the limit");
    total += size;
    if (reader.u32(local) != kLocalHeader) damaged("a member is not where the directory says");
    const std::size_t start = local + kLocalSize + reader.u16(local + 26) + reader.u16(local + 28);
    const std::string_view packed = reader.bytes(start, packed_size);
    std::string data;
    if (method == kStored) {
      if (packed_size != size) damaged("a stored member has two sizes");
      data = packed;
    } else if (method == kDeflated) {
      data = inflated(packed, size);
    } else {
      damaged("a member is compressed by a method other than deflate");
    }
    if (crc_of(data) != crc) damaged("a member does not have its checksum");
    if (!members.emplace(name, std::move(data)).second) damaged("two members have one name");
  }
  return members;
}

std::string write(const std::map<std::string, std::string>& members) {
  constexpr std::uint64_t kLimit = std::numeric_limits<std::uint32_t>::max();
  std::string out, directory;
  for (const auto& [name, data] : members) {
    if (data.size() + out.size() + name.size() + kLocalSize >= kLimit || name.size() > 0xFFFF) {
      throw LoadError("the arrays take more than 4 GiB: write fewer rows to a file");
    }
    const std::uint64_t offset = out.size();
    std::string common;
    put(common, kVersion, 2), put(common, kUtf8Names, 2), put(common, kStored, 2);
    put(common, 0, 2), put(common, kDate1980, 2);
    put(common, crc_of(data), 4), put(common, data.size(), 4), put(common, data.size(), 4);
    put(common, name.size(), 2), put(common, 0, 2);
    put(out, kLocalHeader, 4);
    out += common + name + data;
    put(directory, kCentralHeader, 4), put(directory, kVersion, 2);
    directory += common;
    put(directory, 0, 2), put(directory, 0, 2), put(directory, 0, 2), put(directory, 0, 4), put(directory, offset, 4);
    directory += name;
  }
  const std::uint64_t start = out.size();
  out += directory;
  put(out, kEndOfDirectory, 4), put(out, 0, 2), put(out, 0, 2);
  put(out, members.size(), 2), put(out, members.size(), 2), put(out, directory.size(), 4), put(out, start, 4);
  put(out, 0, 2);
  return out;
}

}  // namespace hardcase::zip
