// Just enough of the zip format (PKWARE APPNOTE 6.3.10) for .npz: stored and deflated members below 4 GiB.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace hardcase::zip {

// All members by name, inflated and checked against their CRC-32.
// Throws LoadError: damaged, encrypted, ZIP64, a name that occurs twice, or more than `max_bytes` once inflated.
std::map<std::string, std::string> read(std::string_view archive, std::size_t max_bytes);

// An archive of stored members, dated 1980-01-01. Throws LoadError past 4 GiB.
std::string write(const std::map<std::string, std::string>& members);

}  // namespace hardcase::zip
