// What a step still needs, against the plain definition, and with plans that take turns.
#include "outlook.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace {

using ithaca::Outlook;

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "outlook_test: %s\n", what);
    ++failures;
  }
}

// One step: `bytes` before each use, the last behind all of them. What it was told at each use.
std::vector<std::int64_t> step(Outlook& outlook, const void* plan,
                               const std::vector<std::int64_t>& bytes) {
  std::vector<std::int64_t> told;
  outlook.begin();
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    outlook.use(plan, bytes[i]);
    told.push_back(outlook.needed());
  }
  outlook.end(bytes.back());
  return told;
}

// The most that comes behind each use.
std::vector<std::int64_t> reference(const std::vector<std::int64_t>& bytes) {
  std::vector<std::int64_t> needed;
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    needed.push_back(*std::max_element(bytes.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                       bytes.end()));
  }
  return needed;
}

}  // namespace

int main() {
  std::mt19937 draw(7);
  Outlook outlook;
  const int plans[2] = {};
  std::vector<std::int64_t> last[2];
  for (int round = 0; round < 200; ++round) {
    const int which = static_cast<int>(draw() % 2);
    std::vector<std::int64_t> bytes(2 + draw() % 20);
    for (auto& part : bytes) part = static_cast<std::int64_t>(draw() % 1000);
    const std::vector<std::int64_t> told = step(outlook, &plans[which], bytes);
    const std::vector<std::int64_t> known =
        last[which].empty() ? std::vector<std::int64_t>() : reference(last[which]);
    for (std::size_t i = 0; i < told.size(); ++i) {
      expect(told[i] == (i < known.size() ? known[i] : Outlook::kUnknown), "what is needed");
    }
    last[which] = bytes;
  }
  outlook.begin();
  expect(outlook.needed() == Outlook::kUnknown, "before the first use nothing is known");
  outlook.use(&plans[0], 5);
  outlook.begin();  // a step without an optimizer is not remembered
  const std::int64_t told = step(outlook, &plans[0], {1, 1})[0];
  expect(told == reference(last[0])[0], "the last whole step counts");
  if (failures == 0) std::puts("outlook_test: ok");
  return failures == 0 ? 0 : 1;
}
