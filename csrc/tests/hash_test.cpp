// Runs the hash by itself, for the sanitizers: every small size at every alignment, in buffers that
// end where the data ends, against values that the plain Python reference gave.
#include "hash.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <utility>

namespace {

int failures = 0;

void expect(bool holds, const char* what, std::size_t size) {
  if (!holds) {
    std::fprintf(stderr, "hash_test: %s fails at size %zu\n", what, size);
    ++failures;
  }
}

// Byte i is a fixed function of i.
unsigned char pattern(std::size_t i) { return static_cast<unsigned char>(i * 131 + i / 7 + 3); }

struct Known {
  std::size_t size;
  std::uint64_t seed;
  ithaca::Hash128 hash;
};

// tests/unit/csrc/test_hash.py reads this table and checks it against the reference.
constexpr Known kKnown[] = {
    {0, 0, {0x3ab90141fbd6fcb2, 0x6a7bdf2974c0a3d9}},
    {1, 0, {0xf1dba257da01fde1, 0x18e7efb2b8e9ecd5}},
    {15, 1, {0x57dc9145edf25a4c, 0x90f132298e8ba5a7}},
    {64, 0, {0x23c498cf01fcaf85, 0x48a3cdf3334921f7}},
    {65, 9223372036854775807, {0xd79d1e9d7a2ea2f5, 0xcfc4ec067f77f0ef}},
    {1000, 12345, {0xec8673d6402f411e, 0xcfdda9c7ef39fe52}},
    {4096, 0, {0x84b5b86f6503a6e7, 0x6c6aa531fad55484}},
};

void check_known_values() {
  for (const Known& known : kKnown) {
    auto bytes = std::make_unique<unsigned char[]>(known.size);
    for (std::size_t i = 0; i < known.size; ++i) bytes[i] = pattern(i);
    expect(ithaca::hash128(bytes.get(), known.size, known.seed) == known.hash, "a known value",
           known.size);
  }
  expect(ithaca::hash128(nullptr, 0, 0) == kKnown[0].hash, "no data at all", 0);
}

void check_sizes_and_alignments() {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  for (std::size_t size = 0; size <= 300; ++size) {
    ithaca::Hash128 first{};
    for (std::size_t offset = 0; offset < 16; ++offset) {
      auto bytes = std::make_unique<unsigned char[]>(offset + size);
      for (std::size_t i = 0; i < size; ++i) bytes[offset + i] = pattern(i);
      const ithaca::Hash128 hash = ithaca::hash128(bytes.get() + offset, size, 0);
      if (offset == 0) first = hash;
      expect(hash == first, "independence of alignment", size);
    }
    expect(seen.insert({first.low, first.high}).second, "difference from smaller sizes", size);
  }
}

void check_every_byte_counts() {
  constexpr std::size_t kSize = 200;
  auto bytes = std::make_unique<unsigned char[]>(kSize);
  const ithaca::Hash128 zeros = ithaca::hash128(bytes.get(), kSize, 0);
  for (std::size_t i = 0; i < kSize; ++i) {
    bytes[i] = 1;
    expect(!(ithaca::hash128(bytes.get(), kSize, 0) == zeros), "a change of one byte", i);
    bytes[i] = 0;
  }
}

}  // namespace

int main() {
  check_known_values();
  check_sizes_and_alignments();
  check_every_byte_counts();
  if (failures == 0) std::puts("hash_test: ok");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
