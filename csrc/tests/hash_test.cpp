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
    {0, 0, {0xf05d34f5526d3bbd, 0x57a1c0af4f29d572}},
    {1, 0, {0x6fc26d1aeb6770ab, 0x39d9aaee84ec05f6}},
    {15, 1, {0x7e3c6144e54701b0, 0x26e92be4893e0e37}},
    {64, 0, {0xe07ae2d718fce44b, 0xf2efd14ee0b4d283}},
    {65, 9223372036854775807, {0x1252ce20a33494ad, 0x9a8b6601466a878e}},
    {1000, 12345, {0x5af3b9e2bbd598af, 0x87c4cbef55b69836}},
    {4096, 0, {0x65e4c0ccb9f40776, 0xdcf6787d14baa9c8}},
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
