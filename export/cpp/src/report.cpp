#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "hardcase/error.hpp"
#include "hardcase/json.hpp"

namespace hardcase {
namespace {

std::string shortest(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

// JSON has no infinity: the largest double stands for it, as in parity.json.
std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", std::isfinite(value) ? value : std::numeric_limits<double>::max());
  return text;
}

std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(width > text.size() ? width - text.size() : 0, ' ');
}

std::string line_of(const Comparison& c, std::size_t width, const Tolerance& tolerance) {
  const Difference& d = c.difference;
  std::string line = "  " + padded(printable(c.output), width) + "  ";
  if (!d.problem.empty()) return line + "DIFFERS: " + d.problem;
  line += "max |a-b| " + padded(shortest(d.max_absolute), 9) + " max |a-b|/|b| " + padded(shortest(d.max_relative), 9);
  if (d.passed()) return line + " ok";
  return line + " DIFFERS: " + std::to_string(d.out_of_tolerance) + " of " + std::to_string(d.elements) +
         " elements out of |a-b| <= " + shortest(tolerance.absolute) + " + " + shortest(tolerance.relative) + "*|b|";
}

}  // namespace

bool Report::passed() const {
  return std::all_of(golden.begin(), golden.end(), [](const Comparison& c) { return c.difference.passed(); });
}

std::string as_text(const Package& package, const Report& report) {
  const Manifest& manifest = package.manifest();
  std::string out = printable(manifest.name) + " " + printable(manifest.version) + "  " + package.digest() + "\n" +
                    std::to_string(manifest.files.size()) + " files are what the manifest says\n";
  std::size_t width = 0;
  for (const Comparison& c : report.golden) width = std::max(width, printable(c.output).size());
  std::string heading;
  for (const Comparison& c : report.golden) {
    const std::string now = c.runtime + " (" + c.library + "), golden cases, " + std::to_string(c.batch_rows) +
                            (c.batch_rows == 1 ? " row a call" : " rows a call");
    if (now != heading) out += now + "\n";
    heading = now;
    out += line_of(c, width, manifest.tolerance) + "\n";
  }
  for (const Skipped& s : report.skipped) out += s.runtime + ": skipped, " + s.reason + "\n";
  if (!report.written_by.empty()) {
    out += std::to_string(report.written_rows) + " rows run by " + report.written_by + "\n";
  }
  return out;
}

std::string as_json(const Package& package, const Report& report) {
  const Manifest& manifest = package.manifest();
  const auto text = [](const std::string& value) { return json::quote(value); };
  std::string out = "{\"name\": " + text(manifest.name) + ", \"version\": " + text(manifest.version) +
                    ", \"digest\": " + text(package.digest()) +
                    ", \"verified_files\": " + std::to_string(manifest.files.size()) + ", \"golden\": [";
  for (const Comparison& c : report.golden) {
    const Difference& d = c.difference;
    out += std::string(&c == &report.golden.front() ? "" : ", ") + "{\"runtime\": " + text(c.runtime) +
           ", \"library\": " + text(c.library) + ", \"batch_rows\": " + std::to_string(c.batch_rows) +
           ", \"output\": " + text(c.output) + ", \"elements\": " + std::to_string(d.elements) +
           ", \"out_of_tolerance\": " + std::to_string(d.out_of_tolerance) +
           ", \"max_absolute\": " + number(d.max_absolute) + ", \"max_relative\": " + number(d.max_relative) +
           ", \"problem\": " + (d.problem.empty() ? "null" : text(d.problem)) +
           ", \"passed\": " + (d.passed() ? "true" : "false") + "}";
  }
  out += "], \"skipped\": [";
  for (const Skipped& s : report.skipped) {
    out += std::string(&s == &report.skipped.front() ? "" : ", ") + "{\"runtime\": " + text(s.runtime) +
           ", \"reason\": " + text(s.reason) + "}";
  }
  out += "], \"written_by\": " + (report.written_by.empty() ? "null" : text(report.written_by)) +
         ", \"written_rows\": " + std::to_string(report.written_rows) +
         ", \"passed\": " + (report.passed() ? "true" : "false") + "}\n";
  return out;
}

}  // namespace hardcase
