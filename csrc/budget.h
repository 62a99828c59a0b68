// A count of bytes with a cap: what is allocated, its peak, and who to ask when the cap is met.
//
// Knows neither Python nor torch. All members may be called from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace ithaca {

// Gives bytes back when an allocation does not fit.
class Reclaimer {
 public:
  virtual ~Reclaimer() = default;
  // Frees some of `missing` bytes for an allocation of `size`. Whether it is worth trying again.
  virtual bool reclaim(std::int64_t size, std::int64_t missing) = 0;
};

class Budget {
 public:
  static constexpr std::int64_t kNoCap = std::numeric_limits<std::int64_t>::max();

  // Takes `size` bytes if the count stays within the cap, asking the reclaimer as long as it frees
  // something. False: it does not fit, and nothing is taken.
  bool charge(std::int64_t size);
  // Asks the reclaimer for `size` bytes although the cap allows them. Whether it freed something.
  bool reclaim(std::int64_t size) { return reclaim(size, size); }
  bool reclaim(std::int64_t size, std::int64_t missing) {
    Reclaimer* reclaimer = reclaimer_.load();
    return reclaimer != nullptr && reclaimer->reclaim(size, missing);
  }
  // Like charge, asking nobody.
  bool try_charge(std::int64_t size);
  void release(std::int64_t size) { allocated_.fetch_sub(size, std::memory_order_relaxed); }

  // Takes bytes that are there already, whatever the cap.
  void adopt(std::int64_t size);

  // For memory that somebody else counts: what is allocated by now, and what is asked for.
  void observe(std::int64_t allocated);
  void ask(std::int64_t size) { raise(largest_, size); }

  void set_cap(std::int64_t cap) { cap_.store(cap); }
  void set_reclaimer(Reclaimer* reclaimer) { reclaimer_.store(reclaimer); }
  // For a forked child, which has none of the threads that a reclaimer needs.
  void forget() {
    reclaimer_.store(nullptr);
    cap_.store(kNoCap);
  }

  std::int64_t cap() const { return cap_.load(std::memory_order_relaxed); }
  std::int64_t allocated() const { return allocated_.load(std::memory_order_relaxed); }
  std::int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void reset_peak() { peak_.store(allocated()); }
  // The highest count since the last call; each reader has its own.
  enum class Reader { kLog, kForesight };
  std::int64_t take_window_peak(Reader reader) {
    return windows_[static_cast<std::size_t>(reader)].exchange(allocated());
  }
  // The largest single request since the session's start; what has to fit at once.
  std::int64_t largest() const { return largest_.load(std::memory_order_relaxed); }
  void reset_largest() { largest_.store(0); }

 private:
  void raise(std::atomic<std::int64_t>& mark, std::int64_t value);

  std::atomic<std::int64_t> allocated_{0}, peak_{0}, largest_{0}, cap_{kNoCap};
  std::array<std::atomic<std::int64_t>, 2> windows_{};
  std::atomic<Reclaimer*> reclaimer_{nullptr};
};

}  // namespace ithaca
