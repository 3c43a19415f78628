// Feeds damaged files to everything that reads bytes from outside. Build it with -DHARDCASE_SANITIZE=ON:
//
//     mutate COUNT SEED manifest.json golden.npz ...
//
// Each file is damaged COUNT times (bits flipped, bytes set, pieces cut, doubled and swapped). A manifest goes to the
// manifest's reader; an array file goes to the reader as it is and, because its checksums would stop most of that, once
// more with one member damaged and the archive around it whole. Prints how many were accepted and refused.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "hardcase/error.hpp"
#include "hardcase/npz.hpp"
#include "manifest.hpp"
#include "zip.hpp"

namespace {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); }

std::string damaged(std::string data, Random& random) {
  static constexpr unsigned char kTelling[] = {0, 1, 0x7F, 0x80, 0xFF, '{', '"', '(', ',', '-', '9', '\\'};
  for (std::size_t edits = 1 + below(random, 4); edits > 0 && !data.empty(); --edits) {
    const std::size_t at = below(random, data.size());
    const std::size_t size = 1 + below(random, std::min<std::size_t>(data.size() - at, 40));
    switch (below(random, 6)) {
      case 0: data[at] = static_cast<char>(data[at] ^ (1 << below(random, 8))); break;
      case 1: data[at] = static_cast<char>(kTelling[below(random, std::size(kTelling))]); break;
      case 2: data.erase(at, size); break;
      case 3: data.insert(at, data.substr(at, size)); break;
      case 4: data.replace(at, size, data.substr(below(random, data.size()), size)); break;
      default: data.resize(at); break;
    }
  }
  return data;
}

struct Count {
  unsigned long accepted = 0, refused = 0;
};

template <typename Read>
void feed(Count& count, Read&& read) {
  try {
    read();
    ++count.accepted;
  } catch (const hardcase::LoadError&) {
    ++count.refused;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("mutate COUNT SEED FILE...\n", stderr), 2;
  const unsigned long count = std::strtoul(argv[1], nullptr, 10);
  Random random(std::strtoull(argv[2], nullptr, 10));
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::string data{std::istreambuf_iterator<char>(file), {}};
    Count found;
    if (!data.starts_with("PK")) {
      for (unsigned long n = 0; n < count; ++n) {
        feed(found, [&] { hardcase::parse_manifest(damaged(data, random)); });
      }
    } else {
      constexpr std::size_t kLimit = std::size_t{64} << 20;
      const auto members = hardcase::zip::read(data, kLimit);
      for (unsigned long n = 0; n < count; ++n) {
        feed(found, [&] { hardcase::parse_npz(damaged(data, random), kLimit); });
        auto inner = members;
        auto victim = inner.begin();
        std::advance(victim, static_cast<std::ptrdiff_t>(below(random, inner.size())));
        victim->second = damaged(victim->second, random);
        const std::string sealed = hardcase::zip::write(inner);
        feed(found, [&] { hardcase::parse_npz(sealed, kLimit); });
      }
    }
    std::printf("%lu accepted, %lu refused\n", found.accepted, found.refused);
  }
  return 0;
}
