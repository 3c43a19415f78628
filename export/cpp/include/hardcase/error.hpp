// Errors of this library. Texts name the file's part that is wrong; nothing from a package is printed unescaped.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace hardcase {

// The package, an array file or a runtime cannot be used. The caller must change what was given.
class LoadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// This program cannot run that kind of file here: it was built without the runtime, or the runtime's library is not there.
class RuntimeMissing : public LoadError {
 public:
  using LoadError::LoadError;
};

// `text` with control characters and bytes beyond ASCII as \xNN, cut at `longest` bytes: safe for a terminal and a log.
std::string printable(std::string_view text, std::size_t longest = 80);

}  // namespace hardcase
