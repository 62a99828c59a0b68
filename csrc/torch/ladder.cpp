// The half of the vault that makes room: writing out, giving up memory, and the ladder that runs
// inside of an allocation that does not fit.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <new>
#include <unordered_set>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include "loose.h"
#include "vault.h"

namespace ithaca {
namespace {

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace

bool Vault::write_out(const StoredPtr& stored, Lock& lock) {
  (void)lock;
  if (!tier_ || stored->refused) return false;
  const Extent extent = tier_->take(stored->nbytes, stored->far);
  if (!extent) {
    ++counters_.disk_full;
    return false;
  }
  stored->extent = extent;
  stored->where = Where::kLeaving;
  stored->wanted = false;
  stored->written = version_of(*stored);
  ++leaving_;
  leaving_bytes_ += stored->nbytes;
  settle(*stored);  // of an earlier copy
  const Tier::Ends ends =
      tier_->write(static_cast<const char*>(stored->memory.get()), stored->nbytes, extent,
                   stored->copies, [this, stored](int error) {
                     c10::DataPtr memory;  // freed without the lock
                     Lock later(mutex_);
                     memory = written(stored, error);
                   });
  if (ends == Tier::Ends::kLater) return true;
  const bool in_order = ends == Tier::Ends::kInOrder;
  counters_.in_order += in_order;
  const c10::DataPtr none = written(stored, in_order ? 0 : EIO);
  return in_order;
}

// With the lock.
c10::DataPtr Vault::written(const StoredPtr& stored, int error) {
  c10::DataPtr memory;
  --leaving_;
  leaving_bytes_ -= stored->nbytes;
  const bool useless = error != 0 || stored->wanted || !stored->alive;
  if (useless) drop_extent(*stored);
  stored->where = useless ? Where::kHere : Where::kParked;
  if (error != 0) {
    ++counters_.failed_writes;
    stored->refused = true;
  } else {
    (stored->state ? counters_.state_out_bytes : counters_.out_bytes) += stored->nbytes;
  }
  if (!stored->alive) {
    count(*stored, -1);
    memory = std::move(stored->memory);
  } else if (!useless && stored->action == Action::kSwap && movable(*stored)) {
    // What is only on its way goes as soon as it has left, or is in somebody's way.
    if (tier_->settled(stored->copies)) {
      give_up(*stored);
    } else {
      departing_.push_back(stored);
    }
  }
  changed_.notify_all();
  return memory;
}

// The device may do something else with the memory, in its own order.
void Vault::settle(Stored& stored) {
  if (tier_) tier_->before_reuse(stored.copies);
  stored.copies = {};
}

// Gives up what was on its way and has left. Copies end in the order in which they began.
void Vault::depart() {
  while (!departing_.empty()) {
    const StoredPtr stored = departing_.front();
    const bool parked = stored->alive && stored->where == Where::kParked && !stored->copies.in;
    if (parked && !tier_->settled(stored->copies)) return;
    departing_.pop_front();
    if (parked && stored->action == Action::kSwap && movable(*stored)) give_up(*stored);
  }
}

// What whoever gets the memory next would do, so that broken code shows.
void Vault::overwrite(const Stored& stored) {
  if (device_.is_cpu()) std::memset(stored.memory.get(), 0x5a, stored.nbytes);
}

// The bytes are on the tier, and nobody uses them: the memory goes back.
void Vault::give_up(Stored& stored) {
  if (stored.state) {
    if (version_of(stored) != stored.written && mutation != Mutation::kNoVersionCheck) {
      forget_copy(stored);
      return;
    }
    stored.mapping = tier_->map(stored.extent);
    if (stored.mapping == nullptr) {
      stored.refused = true;
      forget_copy(stored);
      return;
    }
  }
  stored.where = Where::kAway;
  stored.goes = stored.state;
  count(stored, -1);
  counters_.given_up_bytes += stored.nbytes;
  set_pointer(stored, stored.mapping.get());
  const std::shared_ptr<Mark> left = stored.copies.out;
  if (mutation == Mutation::kReuseBeforeLeaving) overwrite(stored);
  settle(stored);
  if (mutation == Mutation::kEarlyReload) overwrite(stored);
  stored.copies.out = left;  // a read has to wait for it, too
  stored.memory.clear();
}

// --- the ladder ----------------------------------------------------------------------------------

bool Vault::reclaim(std::int64_t size, std::int64_t missing) {
  (void)size;
  const Pause pause;
  Lock lock(mutex_);
  ++counters_.reclaims;
  const std::int64_t first = memory_.allocated();
  notice(lock);
  std::int64_t freed = std::max<std::int64_t>(0, first - memory_.allocated());
  for (;;) {
    freed += drop_parked(missing - freed);
    if (freed >= missing) return true;
    const std::int64_t parked = counters_.in_order;
    start_writes(missing - freed, lock);
    if (counters_.in_order != parked) {
      freed = std::max(freed, first - memory_.allocated());
      continue;
    }
    if (leaving_ == 0 && coming_ == 0) break;
    const std::int64_t start = now_ns();
    const std::int64_t before = leaving_ + coming_;
    const std::int64_t allocated = memory_.allocated();
    ++counters_.waited;
    changed_.wait(lock, [&] {
      return leaving_ + coming_ != before || memory_.allocated() < allocated;
    });
    counters_.wait_ns += now_ns() - start;
    freed += std::max<std::int64_t>(0, allocated - memory_.allocated());
  }
  freed = std::max(freed, first - memory_.allocated());
  if (freed == 0) freed = lend(missing, lock);
  if (freed == 0) freed = lend_loose(missing, lock);
  if (freed == 0) ++counters_.refusals;
  return freed > 0;
}

// The last rung: what the program itself still holds. Its address has to stay, since an operator
// may have read it already; so its pages become those of the file, which is slow and never wrong.
// Nobody may write between the copy and the exchange: only the thread that runs the model gets
// here, in the middle of its own allocation, and not while it shares an operator with others.
std::int64_t Vault::lend(std::int64_t missing, Lock& lock) {
  if (!tier_ || at::in_parallel_region() || std::this_thread::get_id() != actor_) return 0;
  std::vector<StoredPtr> held;
  for (const Births* which : {&by_birth_, &states_}) {
    if (which == &states_ && !holding_) continue;
    for (const auto& [birth, stored] : *which) {
      if (stored->where == Where::kHere && !stored->refused) held.push_back(stored);
    }
  }
  std::int64_t freed = 0;
  for (const StoredPtr& stored : held) {
    if (freed >= missing) break;
    const auto address = reinterpret_cast<std::uintptr_t>(stored->memory.get());
    const bool pages = address % DiskIo::kBlock == 0 && stored->nbytes >= DiskIo::kBlock;
    if (!pages || !memory_.counts(stored->memory) || !write_out(stored, lock)) continue;
    changed_.wait(lock, [&] { return stored->where != Where::kLeaving; });
    if (stored->where == Where::kParked && stored->alive && lend(*stored)) {
      freed += stored->nbytes / DiskIo::kBlock * DiskIo::kBlock;
    }
  }
  return freed;
}

// And what nobody saved at all: gradients on their way.
std::int64_t Vault::lend_loose(std::int64_t missing, Lock& lock) {
  LooseBlocks* loose = memory_.loose();
  if (!tier_ || loose == nullptr || std::this_thread::get_id() != actor_) return 0;
  std::unordered_set<void*> managed;
  for (const Births* which : {&states_, &by_birth_}) {
    for (const auto& [birth, stored] : *which) managed.insert(stored->memory.get());
  }
  lock.unlock();
  std::int64_t blocks = 0;
  const std::int64_t freed =
      loose->lend(*tier_, missing, managed, [&](void* data, std::int64_t bytes) {
        memory_.lend(data, bytes);
        ++blocks;
      });
  lock.lock();
  counters_.lent += blocks;
  return freed;
}

// The bytes are on the disk. False: they stay.
bool Vault::lend(Stored& stored) {
  const std::int64_t size = stored.nbytes / DiskIo::kBlock * DiskIo::kBlock;
  if (!tier_->map_at(stored.extent, stored.memory.get(), size)) {
    stored.refused = true;
    forget_copy(stored);
    return false;
  }
  stored.where = Where::kLent;
  ++counters_.lent;
  count(stored, -1);
  counters_.given_up_bytes += stored.nbytes;
  memory_.lend(stored.memory.get(), size);
  return true;
}

// Before memory goes back to where it came from, its pages are its own again.
void Vault::own_pages(Stored& stored) {
  const std::int64_t size = stored.nbytes / DiskIo::kBlock * DiskIo::kBlock;
  if (!DiskIo::unmap_at(stored.memory.get(), size)) {
    (void)stored.memory.release_context();  // lost, rather than a file's pages in the heap
  }
}

// At the end of a session the bytes outlive the file.
void Vault::take_back(Stored& stored) {
  const std::int64_t size = stored.nbytes / DiskIo::kBlock * DiskIo::kBlock;
  const std::unique_ptr<char[]> copy(new (std::nothrow) char[static_cast<std::size_t>(size)]);
  if (!copy) return;  // the file lives on with its pages
  std::memcpy(copy.get(), stored.memory.get(), static_cast<std::size_t>(size));
  if (!DiskIo::unmap_at(stored.memory.get(), size)) return;
  std::memcpy(stored.memory.get(), copy.get(), static_cast<std::size_t>(size));
  memory_.lend(stored.memory.get(), 0);
  count(stored, 1);
  stored.where = Where::kHere;
  drop_extent(stored);
}

// State first, as much as is planned: it is used last, in the optimizer's step. Then the oldest:
// backward reads it last. Then whatever state is left.
std::int64_t Vault::drop_parked(std::int64_t missing, bool planned) {
  const std::int64_t most = state_away_ - (state_bytes_ - states_here_);
  std::int64_t freed = drop_parked(states_, missing, most, planned);
  freed += drop_parked(by_birth_, missing - freed, Budget::kNoCap, planned);
  return freed + drop_parked(states_, missing - freed, Budget::kNoCap, planned);
}

std::int64_t Vault::drop_parked(const Births& which, std::int64_t missing, std::int64_t most,
                                bool planned) {
  std::int64_t freed = 0;
  for (const auto& [birth, stored] : which) {
    if (freed >= missing) return freed;
    if (stored->where != Where::kParked || !movable(*stored)) continue;
    if (planned && (!stored->copies.out || stored->copies.in)) continue;  // not read back yet
    if (planned && stored->action != Action::kSwap) continue;
    if (stored->nbytes > most - freed) continue;
    give_up(*stored);
    if (stored->where != Where::kAway) continue;
    freed += stored->nbytes;
    ++counters_.released_parked;
  }
  return freed;
}

std::int64_t Vault::start_writes(std::int64_t missing, Lock& lock) {
  std::int64_t begun = leaving_bytes_;
  const auto start = [&](const Births& which, std::int64_t most, std::int64_t& counter,
                         auto&& meant) {
    for (const auto& [birth, stored] : which) {
      if (begun >= missing) return;
      if (stored->where != Where::kHere || stored->refused || !movable(*stored)) continue;
      if (stored->nbytes > most || !meant(*stored) || !write_out(stored, lock)) continue;
      most -= stored->nbytes;
      begun += stored->nbytes;
      ++counter;
    }
  };
  const auto any = [](const Stored&) { return true; };
  const auto planned = [](const Stored& stored) { return stored.action == Action::kSwap; };
  const auto unplanned = [&](const Stored& stored) { return !planned(stored); };
  start(states_, state_room(), counters_.evicted_state, any);
  start(by_birth_, Budget::kNoCap, counters_.evicted_planned, planned);
  start(by_birth_, Budget::kNoCap, counters_.evicted_lru, unplanned);
  start(states_, Budget::kNoCap, counters_.evicted_state, any);
  return begun;
}

// Without a plan: what is above the mark is written early, so that a miss finds it parked.
void Vault::write_ahead(Lock& lock) {
  std::int64_t above = memory_.allocated() - passive_mark_ - leaving_bytes_;
  if (!tier_ || above <= 0) return;
  for (const auto& [birth, stored] : by_birth_) {
    if (above <= 0) return;
    if (stored->where == Where::kParked) {
      above -= stored->nbytes;
    } else if (stored->where == Where::kHere && stored->action == Action::kPassive &&
               !stored->refused && only_ours(*stored) && write_out(stored, lock)) {
      above -= stored->nbytes;
    }
  }
}

// --- the end -------------------------------------------------------------------------------------

void Vault::close(bool restore) {
  const Pause pause;
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return leaving_ == 0 && coming_ == 0; });
  std::vector<StoredPtr> all;
  for (const Births* which : {&states_, &by_birth_}) {
    for (const auto& [birth, stored] : *which) all.push_back(stored);
  }
  for (const StoredPtr& stored : all) {
    if (!stored->alive) continue;
    if (stored->where == Where::kLent) {
      take_back(*stored);
      continue;
    }
    if (stored->where == Where::kAway && !restore && !stored->state) {
      stored->where = Where::kLost;
    } else {
      try {
        bring_in(stored, lock);
      } catch (const c10::Error&) {
        // No room: what has a mapping stays readable by it, and the file lives on with it.
        if (stored->mapping == nullptr) stored->where = Where::kLost;
        continue;
      }
      if (tier_) tier_->before_use(stored->copies);
      forget_copy(*stored);
      stored->extent = {};
    }
  }
  if (LooseBlocks* loose = memory_.loose()) {
    loose->take_back([&](void* data) { memory_.lend(data, 0); });
  }
  departing_.clear();
  timing_ = false;
  closed_ = true;
  plan_.reset();
  fresh_.clear();
  const std::unique_ptr<Tier> tier = std::move(tier_);
  lock.unlock();
}

}  // namespace ithaca
