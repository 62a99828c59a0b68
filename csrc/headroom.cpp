#include "headroom.h"

#include <algorithm>

#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

namespace ithaca {
namespace {

// Between two questions no more than this share of the reserve is taken.
constexpr std::int64_t kShare = 8;
// Under a limit, blocks from this size on are mapped one by one: what is freed goes back to the
// system at once. In a heap it would stay between others, and count.
constexpr int kMapped = 64 << 10;

std::int64_t limit_of(__rlimit_resource_t resource) {
  rlimit known{};
  if (getrlimit(resource, &known) != 0 || known.rlim_cur == RLIM_INFINITY) return -1;
  return static_cast<std::int64_t>(known.rlim_cur);
}

}  // namespace

std::int64_t Headroom::limit() {
  const std::int64_t data = limit_of(RLIMIT_DATA), space = limit_of(RLIMIT_AS);
  return data < 0 ? space : space < 0 ? data : std::min(data, space);
}

bool Headroom::left(std::size_t taken) {
  const std::int64_t reserve = reserve_.load(std::memory_order_relaxed);
  if (reserve == 0) return true;
  const auto size = static_cast<std::int64_t>(taken);
  if (taken_.fetch_add(size, std::memory_order_relaxed) + size < reserve / kShare) return true;
  if (limit() < 0) {
    taken_.store(0, std::memory_order_relaxed);
    return true;
  }
  static const bool mapped = mallopt(M_MMAP_THRESHOLD, kMapped) != 0;
  (void)mapped;
  // Nothing is written to it, so it costs no memory; the limit counts it all the same.
  void* probe = mmap(nullptr, static_cast<std::size_t>(reserve), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (probe == MAP_FAILED) return false;  // `taken_` stays high: the next one asks again
  munmap(probe, static_cast<std::size_t>(reserve));
  taken_.store(0, std::memory_order_relaxed);
  return true;
}

void Headroom::refuse_one_in(std::int64_t requests, std::uint64_t seed) {
  drawn_.store(seed);
  one_in_.store(requests);
}

bool Headroom::refuses() {
  const std::int64_t one_in = one_in_.load(std::memory_order_relaxed);
  if (one_in == 0) return false;
  std::uint64_t word = drawn_.fetch_add(0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u;  // splitmix64
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
  word = (word ^ word >> 27) * 0x94d049bb133111ebu;
  return (word ^ word >> 31) % static_cast<std::uint64_t>(one_in) == 0;
}

}  // namespace ithaca
