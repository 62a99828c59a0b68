// Lets allocations through that fit a budget of memory which somebody else counts, one at a time;
// makes room for those that do not, and for those that the device itself refuses.
//
// Knows neither Python nor torch. May be used from any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "budget.h"

namespace ithaca {

// The least budget that can let `taken` bytes through where `now` are allocated and a budget of
// `cap` was refused: if they would have fit, the device had no free piece of that length, and it
// takes room for one more.
inline std::int64_t budget_for(std::int64_t now, std::int64_t taken, std::int64_t cap) {
  return now + taken > cap ? now + taken : cap + taken;
}

class Gate {
 public:
  // `size` bytes are asked for, which take `taken` bytes of the budget. `count()` tells what is
  // allocated by now; `take()` allocates, and returns what it got or nothing if the device has no
  // more. Nothing is returned when no more room can be made. Each turn frees something, so that it
  // ends.
  template <typename Count, typename Take>
  auto admit(Budget& budget, std::int64_t size, std::int64_t taken, Count&& count, Take&& take)
      -> decltype(take()) {
    budget.ask(size);
    for (;;) {
      std::int64_t missing = 0;
      if (auto got = once(budget, taken, missing, count, take)) return got;
      if (!budget.reclaim(size, missing)) return {};
    }
  }

  // The same for bytes that may be there or not: asks nobody to make room.
  template <typename Count, typename Take>
  auto admit_if_free(Budget& budget, std::int64_t taken, Count&& count, Take&& take)
      -> decltype(take()) {
    std::int64_t missing = 0;
    return once(budget, taken, missing, count, take);
  }

 private:
  template <typename Count, typename Take>
  auto once(Budget& budget, std::int64_t taken, std::int64_t& missing, Count& count, Take& take)
      -> decltype(take()) {
    std::lock_guard lock(mutex_);  // between asking and allocating
    const std::int64_t now = count();
    budget.observe(now);
    missing = now - (budget.cap() - taken);
    if (missing > 0) return {};
    auto got = take();
    if (got) {
      budget.observe(count());
    } else {
      missing = taken;  // the device is out of memory, whatever the budget allows
    }
    return got;
  }

  std::mutex mutex_;
};

}  // namespace ithaca
