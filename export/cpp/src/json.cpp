#include "hardcase/json.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "hardcase/error.hpp"

namespace hardcase::json {
namespace {

constexpr int kMaxDepth = 64;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value document() {
    Value value = element(0);
    space();
    if (at_ != text_.size()) fail("something follows the document");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw LoadError("not valid JSON at byte " + std::to_string(at_) + ": " + what);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  void expect(char c, const char* what) {
    if (at_ >= text_.size() || text_[at_] != c) fail(what);
    ++at_;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Value element(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    space();
    switch (peek()) {
      case '{': return Value(object(depth));
      case '[': return Value(array(depth));
      case '"': return Value(string());
      case 't': if (take("true")) return Value(true); break;
      case 'f': if (take("false")) return Value(false); break;
      case 'n': if (take("null")) return Value(nullptr); break;
      default: return Value(number());
    }
    fail("unknown word");
  }

  Object object(int depth) {
    Object found;
    ++at_;
    space();
    if (take("}")) return found;
    for (;;) {
      space();
      if (peek() != '"') fail("expected a key");
      std::string key = string();
      space();
      expect(':', "expected ':'");
      if (!found.try_emplace(std::move(key), element(depth + 1)).second) fail("a key occurs twice");
      space();
      if (take("}")) return found;
      expect(',', "expected ',' or '}'");
    }
  }

  Array array(int depth) {
    Array found;
    ++at_;
    space();
    if (take("]")) return found;
    for (;;) {
      found.push_back(element(depth + 1));
      space();
      if (take("]")) return found;
      expect(',', "expected ',' or ']'");
    }
  }

  // -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
  Number number() {
    const std::size_t start = at_;
    const auto digits = [this] {
      const std::size_t first = at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      if (at_ == first) fail("expected a value");
    };
    if (peek() == '-') ++at_;
    if (peek() == '0') ++at_; else digits();
    if (peek() == '.') ++at_, digits();
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    return Number{std::string(text_.substr(start, at_ - start))};
  }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    const char* first = text_.data() + at_;
    if (text_.size() - at_ < 4) fail("a \\u escape is cut off");
    const auto [end, error] = std::from_chars(first, first + 4, code, 16);
    if (error != std::errc() || end != first + 4) fail("a \\u escape is not four hex digits");
    at_ += 4;
    return code;
  }

  // The code point after "\u", surrogate pairs joined.
  std::uint32_t escaped() {
    const std::uint32_t high = hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || !take("\\u")) fail("half of a surrogate pair");
    const std::uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_utf8(std::string& out, std::uint32_t c) {
    const auto byte = [&out](std::uint32_t b) { out.push_back(static_cast<char>(b)); };
    if (c < 0x80) {
      byte(c);
    } else if (c < 0x800) {
      byte(0xC0 | c >> 6), byte(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F));
    } else {
      byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 0x3F)), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F));
    }
  }

  std::string string() {
    std::string out;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) fail("a string does not end");
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c != '\\') {
        out.push_back(c);
        continue;
      }
      const char e = peek();
      ++at_;
      switch (e) {
        case '"': case '\\': case '/': out.push_back(e); break;
        case 'b': out.push_back('\b'); break;
        case 'f': out.push_back('\f'); break;
        case 'n': out.push_back('\n'); break;
        case 'r': out.push_back('\r'); break;
        case 't': out.push_back('\t'); break;
        case 'u': append_utf8(out, escaped()); break;
        default: fail("an unknown escape");
      }
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

template <typename T>
const T& expect_kind(const Value::Data& data, std::string_view where, const char* kind) {
  if (const T* found = std::get_if<T>(&data)) return *found;
  throw LoadError(std::string(where) + ": expected " + kind);
}

}  // namespace

bool Value::as_bool(std::string_view where) const { return expect_kind<bool>(data_, where, "true or false"); }

std::int64_t Value::as_integer(std::string_view where) const {
  const std::string& text = expect_kind<Number>(data_, where, "an integer").text;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw LoadError(std::string(where) + ": expected an integer of 64 bits");
  }
  return value;
}

double Value::as_number(std::string_view where) const {
  const std::string& text = expect_kind<Number>(data_, where, "a number").text;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw LoadError(std::string(where) + ": expected a finite number");
  }
  return value;
}

const std::string& Value::as_string(std::string_view where) const {
  return expect_kind<std::string>(data_, where, "a string");
}

const Array& Value::as_array(std::string_view where) const { return expect_kind<Array>(data_, where, "a list"); }

const Object& Value::as_object(std::string_view where) const {
  return expect_kind<Object>(data_, where, "an object");
}

const Value* Value::find(const std::string& key, std::string_view where) const {
  const Object& object = as_object(where);
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &found->second;
}

const Value& Value::get(const std::string& key, std::string_view where) const {
  if (const Value* found = find(key, where)) return *found;
  throw LoadError(std::string(where) + ": field '" + key + "' is missing");
}

Value parse(std::string_view text) { return Parser(text).document(); }

std::string quote(std::string_view text) {
  constexpr std::array<char, 17> kHex = {"0123456789abcdef"};
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\'), out.push_back(c);
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00", out.push_back(kHex[byte >> 4]), out.push_back(kHex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

}  // namespace hardcase::json
