// A strict JSON reader (RFC 8259) for manifests: bounded depth, no duplicate keys, whole input or an error.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hardcase::json {

class Value;
using Array = std::vector<Value>;
using Object = std::map<std::string, Value>;

// A number keeps its text, so that 64-bit integers stay exact.
struct Number {
  std::string text;
};

// One JSON value. The accessors throw LoadError, with `where` in the text, when the value is of another kind.
class Value {
 public:
  using Data = std::variant<std::nullptr_t, bool, Number, std::string, Array, Object>;

  Value() = default;
  explicit Value(Data data) : data_(std::move(data)) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(data_); }
  bool as_bool(std::string_view where) const;
  std::int64_t as_integer(std::string_view where) const;
  double as_number(std::string_view where) const;
  const std::string& as_string(std::string_view where) const;
  const Array& as_array(std::string_view where) const;
  const Object& as_object(std::string_view where) const;

  // A field of an object. `get` throws when it is missing, `find` gives null.
  const Value& get(const std::string& key, std::string_view where) const;
  const Value* find(const std::string& key, std::string_view where) const;

 private:
  Data data_ = nullptr;
};

// Throws LoadError: not JSON, deeper than 64 levels, or a key that occurs twice.
Value parse(std::string_view text);

// `text` as a JSON string literal.
std::string quote(std::string_view text);

}  // namespace hardcase::json
