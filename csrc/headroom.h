// What the system leaves to a process beside what torch's allocator takes.
//
// Math libraries take buffers of their own when they first need them, and some of them, refused,
// compute in another order instead: other bits, and no error. Under a limit of the system on
// the data of a process somebody has to leave them room.
//
// Knows neither Python nor torch. All members may be called from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ithaca {

class Headroom {
 public:
  // Bytes to be left; 0 for none.
  void set_reserve(std::int64_t bytes) { reserve_.store(bytes); }
  std::int64_t reserve() const { return reserve_.load(); }
  // Whether the system would still give the reserve, `taken` bytes after the last time somebody
  // asked. Asks again only when these add up.
  bool left(std::size_t taken);
  // RLIMIT_DATA or RLIMIT_AS, whichever is smaller; below 0 for none.
  static std::int64_t limit();

  // For tests: one in so many requests, drawn from a seed, is refused as if the system had nothing
  // left; 0 for none.
  void refuse_one_in(std::int64_t requests, std::uint64_t seed);
  bool refuses();

 private:
  std::atomic<std::int64_t> reserve_{0}, taken_{0}, one_in_{0};
  std::atomic<std::uint64_t> drawn_{0};
};

}  // namespace ithaca
