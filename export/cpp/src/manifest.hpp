// The manifest's JSON as records.
#pragma once

#include <string_view>

#include "hardcase/package.hpp"

namespace hardcase {

// Throws LoadError: not JSON, another schema version, or a field is missing or wrong; the text names it. Fields that
// this program does not need are not looked at.
Manifest parse_manifest(std::string_view text);

}  // namespace hardcase
