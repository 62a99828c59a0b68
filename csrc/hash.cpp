// Construction.
//
// The bytes are cut into blocks of 64, the last one padded with zeros; a block is four cells of two
// little-endian words (a, b). Cell i belongs to lane i, whose state is two words (x, y):
//
//     absorb:  x ^= a,  y ^= b
//     stir:    y += fold(x * K0),  then  x += fold(y * K1)
//
// where the products have 128 bits and fold is the exclusive or of their halves. Stirring is a
// Feistel network, hence invertible: two inputs of equal size that differ within one cell leave
// different lanes behind, always and not only probably. At the end the four lanes are absorbed one
// by one into a state that started from size and seed, with two stirs after each; that is
// invertible in every lane too, so such inputs have different hashes. The lanes do not depend on
// each other, which keeps the multiplier busy while each waits for its own product.
//
// The constants are the first 64 bits of the fractional parts of the square roots of primes.
#include "hash.h"

#include <array>
#include <bit>
#include <cstring>

namespace ithaca {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

using Word = std::uint64_t;
__extension__ using DoubleWord = unsigned __int128;

constexpr std::size_t kCell = 2 * sizeof(Word);
constexpr std::size_t kBlock = 4 * kCell;

// Of 3 and 7, which are odd: the multipliers.
constexpr Word kFirst = 0xbb67ae8584caa73b;
constexpr Word kSecond = 0xa54ff53a5f1d36f1;

Word folded_product(Word a, Word b) {
  const DoubleWord wide = static_cast<DoubleWord>(a) * b;
  return static_cast<Word>(wide ^ (wide >> 64));
}

struct State {
  Word x;
  Word y;

  void absorb(Word a, Word b) {
    x ^= a;
    y ^= b;
  }

  void stir() {
    y += folded_product(x, kFirst);
    x += folded_product(y, kSecond);
  }

  void take(const std::byte* cell) {
    std::array<Word, 2> words;
    std::memcpy(words.data(), cell, kCell);
    absorb(words[0], words[1]);
    stir();
  }
};

// Four variables and no array: compilers then keep all of the state in registers.
struct Lanes {
  State a, b, c, d;

  void take(const std::byte* block) {
    a.take(block);
    b.take(block + kCell);
    c.take(block + 2 * kCell);
    d.take(block + 3 * kCell);
  }
};

}  // namespace

Hash128 hash128(const void* data, std::size_t size, std::uint64_t seed) noexcept {
  // The square roots of 11 to 31.
  Lanes lanes{{0x510e527fade682d1 ^ seed, 0x9b05688c2b3e6c1f},
              {0x1f83d9abfb41bd6b ^ seed, 0x5be0cd19137e2179},
              {0xcbbb9d5dc1059ed8 ^ seed, 0x629a292a367cd507},
              {0x9159015a3070dd17 ^ seed, 0x152fecd8f70e5939}};

  const auto* at = static_cast<const std::byte*>(data);
  std::size_t left = size;
  for (; left >= kBlock; left -= kBlock, at += kBlock) {
    lanes.take(at);
  }
  if (left > 0) {
    std::array<std::byte, kBlock> last{};
    std::memcpy(last.data(), at, left);
    lanes.take(last.data());
  }

  State all{static_cast<Word>(size), seed};
  all.stir();
  for (const State& lane : {lanes.a, lanes.b, lanes.c, lanes.d}) {
    all.absorb(lane.x, lane.y);
    all.stir();
    all.stir();
  }
  return {all.x, all.y};
}

}  // namespace ithaca
