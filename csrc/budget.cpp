#include "budget.h"

namespace ithaca {

void Budget::raise(std::atomic<std::int64_t>& mark, std::int64_t value) {
  std::int64_t seen = mark.load(std::memory_order_relaxed);
  while (value > seen && !mark.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

bool Budget::try_charge(std::int64_t size) {
  std::int64_t now = allocated_.load(std::memory_order_relaxed);
  do {
    if (size > cap_.load(std::memory_order_relaxed) - now) return false;
  } while (!allocated_.compare_exchange_weak(now, now + size, std::memory_order_relaxed));
  raise(peak_, now + size);
  for (auto& window : windows_) raise(window, now + size);
  return true;
}

bool Budget::charge(std::int64_t size) {
  raise(largest_, size);
  while (!try_charge(size)) {
    Reclaimer* reclaimer = reclaimer_.load();
    const std::int64_t missing = allocated() + size - cap();
    if (missing <= 0) continue;  // somebody else freed it meanwhile
    if (reclaimer == nullptr || !reclaimer->reclaim(size, missing)) return false;
  }
  return true;
}

void Budget::observe(std::int64_t allocated) {
  allocated_.store(allocated, std::memory_order_relaxed);
  raise(peak_, allocated);
  for (auto& window : windows_) raise(window, allocated);
}

void Budget::adopt(std::int64_t size) {
  const std::int64_t now = allocated_.fetch_add(size, std::memory_order_relaxed) + size;
  raise(peak_, now);
  for (auto& window : windows_) raise(window, now);
}

}  // namespace ithaca
