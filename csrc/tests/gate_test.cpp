// Runs the gate and the slab by themselves, for the sanitizers. The gate stands before a memory
// that counts by itself, and sometimes refuses although there is room; many threads never get it
// above the cap, and what is refused could not have been helped. The slab is compared with a map of
// every grain.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "budget.h"
#include "gate.h"
#include "slab.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "gate_test: %s\n", what);
    ++failures;
  }
}

// A memory in which `parked` bytes can be given up at any time.
struct Device final : ithaca::Reclaimer {
  std::mutex mutex;
  std::int64_t allocated = 0, parked = 0, most = 0, asked = 0;
  std::int64_t refusals = 0;  // so many requests are refused for no reason of the budget

  std::optional<std::int64_t> take(std::int64_t size) {
    std::lock_guard lock(mutex);
    if (refusals > 0) {
      --refusals;
      return std::nullopt;
    }
    allocated += size;
    most = std::max(most, allocated);
    return size;
  }
  void give_back(std::int64_t size, bool park) {
    std::lock_guard lock(mutex);
    (park ? parked : allocated) += park ? size : -size;
  }
  std::int64_t count() {
    std::lock_guard lock(mutex);
    return allocated;
  }
  bool reclaim(std::int64_t, std::int64_t missing) override {
    std::lock_guard lock(mutex);
    ++asked;
    const std::int64_t freed = std::min(parked, missing);
    parked -= freed;
    allocated -= freed;
    return freed > 0;
  }
};

void check_gate() {
  constexpr std::int64_t kCap = 1000;
  ithaca::Budget budget;
  ithaca::Gate gate;
  Device device;
  budget.set_cap(kCap);
  budget.set_reclaimer(&device);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        const std::int64_t size = 1 + (i * 37 + t) % 240;
        const auto got = gate.admit(
            budget, size, size, [&] { return device.count(); }, [&] { return device.take(size); });
        if (got) {
          device.give_back(*got, i % 3 == 0);
        } else {
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect(device.most <= kCap, "the memory was above the cap");
  expect(budget.peak() == device.most, "the peak is not what was allocated at most");
  expect(refused == 0, "what would have fitted was refused");
  expect(device.asked > 0, "nobody was asked to make room");
}

void check_refusals() {
  ithaca::Budget budget;
  ithaca::Gate gate;
  Device device;
  budget.set_cap(1000);
  budget.set_reclaimer(&device);
  const auto count = [&] { return device.count(); };
  const auto take = [&](std::int64_t size) {
    return [&device, size] { return device.take(size); };
  };
  expect(!gate.admit(budget, 1001, 1001, count, take(1001)), "more than the cap was granted");
  expect(device.allocated == 0, "something was left of what was refused");
  expect(gate.admit(budget, 900, 900, count, take(900)).has_value(), "room was refused");
  expect(!gate.admit_if_free(budget, 200, count, take(200)), "above the cap without asking");
  device.parked = 300;
  device.refusals = 1;
  const std::int64_t asked = device.asked;
  expect(gate.admit(budget, 50, 50, count, take(50)).has_value(),
         "what the device refused once was not tried again");
  expect(device.asked > asked, "nobody made room for what the device refused");
  device.parked = 0;
  device.refusals = 1;
  expect(!gate.admit(budget, 50, 50, count, take(50)), "a device without memory was not believed");
}

void check_slab() {
  constexpr std::int64_t kRegion = 1 << 16, kLimit = 5 * kRegion + 100;
  std::vector<std::vector<char>> memory;
  ithaca::Slab slab(
      kLimit,
      [&](std::int64_t size) {
        memory.emplace_back(static_cast<std::size_t>(size));
        return memory.back().data();
      },
      kRegion);
  struct Piece {
    ithaca::Extent extent;
    std::int64_t size;
    unsigned char mark;
  };
  std::vector<Piece> held;
  std::mt19937 drawn(7);
  std::int64_t used = 0;
  const auto check = [&](const Piece& piece) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(slab.at(piece.extent));
    return std::all_of(bytes, bytes + piece.size, [&](unsigned char b) { return b == piece.mark; });
  };
  for (int turn = 0; turn < 20000; ++turn) {
    if (drawn() % 2 == 0) {
      const std::int64_t size = 1 + drawn() % (drawn() % 20 == 0 ? 3 * kRegion : 9000);
      const ithaca::Extent extent = slab.take(size);
      if (!extent) continue;
      expect(extent.size >= size && extent.size % ithaca::Slab::kGrain == 0, "odd pieces");
      const auto mark = static_cast<unsigned char>(drawn());
      std::fill_n(slab.at(extent), size, static_cast<char>(mark));
      held.push_back({extent, size, mark});
      used += extent.size;
    } else if (!held.empty()) {
      std::swap(held[drawn() % held.size()], held.back());
      expect(check(held.back()), "two pieces overlap");
      used -= held.back().extent.size;
      slab.give_back(held.back().extent);
      held.pop_back();
    }
    expect(slab.used() == used, "the count of used bytes is off");
    expect(slab.held() <= kLimit, "more than the limit");
  }
  expect(slab.regions() >= 2 && slab.regions() <= 5, "as few regions as that takes");
  for (const Piece& piece : held) slab.give_back(piece.extent);
  // All is one hole again in every region: the largest can be taken whole.
  expect(static_cast<bool>(slab.take(kRegion)), "holes were not put together again");
  ithaca::Slab none(kLimit, [](std::int64_t) -> char* { return nullptr; }, kRegion);
  expect(!none.take(1), "memory out of nothing");
}

void names_a_budget_that_helps() {
  expect(ithaca::budget_for(80, 30, 100) == 110, "what does not fit needs what it takes");
  expect(ithaca::budget_for(60, 30, 100) == 130, "what fits and got no piece needs one more");
  expect(ithaca::budget_for(70, 30, 100) == 130, "what fits exactly fits");
}

}  // namespace

int main() {
  check_gate();
  check_refusals();
  names_a_budget_that_helps();
  check_slab();
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
