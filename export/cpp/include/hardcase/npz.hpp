// Arrays on disk: NumPy's .npz (a zip of .npy files), as `numpy.savez` and `numpy.savez_compressed` write them.
//
// BYTES elements, which NumPy could only pickle, are held as Hardcase's exporter holds them: a uint8 array "<key>" with a
// 4-byte little-endian length before each element, beside an int64 array "<key>#shape".
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include "hardcase/tensor.hpp"

namespace hardcase {

inline constexpr std::size_t kMaxNpzBytes = std::size_t{256} << 20;

// Read all arrays by name. Fortran order is turned into C order. uint16 stays UINT16: only a signature knows BF16.
// Throws LoadError: not such a file, damaged, a dtype that no tensor has, or it would take more than `max_bytes`.
Tensors read_npz(const std::filesystem::path& path, std::size_t max_bytes = kMaxNpzBytes);
// The same of a file's bytes.
Tensors parse_npz(std::string_view archive, std::size_t max_bytes = kMaxNpzBytes);

// Write arrays without compression. The same tensors give the same bytes. Throws LoadError when the disk does.
void write_npz(const std::filesystem::path& path, const Tensors& tensors);

}  // namespace hardcase
