// SHA-256 (FIPS 180-4, 2015, section 6.2), to hold files against the manifest without a cryptography library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace hardcase {

class Sha256 {
 public:
  void update(const void* data, std::size_t size);
  // The digest in lower-case hex. The object is used up.
  std::string hex();

 private:
  void block(const std::uint8_t* data);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> pending_ = {};
  std::size_t pending_size_ = 0;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace hardcase
