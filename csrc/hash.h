// A fast 128-bit hash of bytes, to tell apart states that should be equal. Not for adversaries.
//
// Knows neither Python nor torch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ithaca {

// The two halves of a hash, the low one first.
struct Hash128 {
  std::uint64_t low;
  std::uint64_t high;

  friend bool operator==(const Hash128&, const Hash128&) = default;
};

// The hash under `seed` of the `size` bytes at `data`, at any alignment; null when `size` is 0 is
// fine. A pure function of size, bytes and seed: the same on every machine and with every compiler.
Hash128 hash128(const void* data, std::size_t size, std::uint64_t seed) noexcept;

}  // namespace ithaca
