// The half of the vault that makes room: writing out, giving up memory, and the ladder that runs
// inside of an allocation that does not fit.
#include <algorithm>
#include <chrono>

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include "vault.h"

namespace ithaca {
namespace {

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace

bool Vault::write_out(const StoredPtr& stored, Lock& lock) {
  (void)lock;
  if (!disk_ || stored->refused) return false;
  const Extent extent = disk_->take(stored->nbytes);
  if (!extent) {
    ++counters_.disk_full;
    return false;
  }
  stored->extent = extent;
  stored->where = Where::kLeaving;
  stored->wanted = false;
  ++leaving_;
  leaving_bytes_ += stored->nbytes;
  disk_->submit({DiskIo::Kind::kWrite, static_cast<char*>(stored->memory.get()), stored->nbytes,
                 extent.offset, [this, stored](int error) { written(stored, error); }});
  return true;
}

void Vault::written(const StoredPtr& stored, int error) {
  c10::DataPtr memory;
  Lock lock(mutex_);
  --leaving_;
  leaving_bytes_ -= stored->nbytes;
  const bool useless = error != 0 || stored->wanted || !stored->alive;
  if (useless) disk_->give_back(std::exchange(stored->extent, {}));
  stored->where = useless ? Where::kHere : Where::kParked;
  if (error != 0) {
    ++counters_.failed_writes;
    stored->refused = true;
  } else {
    (stored->state ? counters_.state_out_bytes : counters_.out_bytes) += stored->nbytes;
  }
  if (!stored->alive) {
    managed_ -= stored->nbytes;
    memory = std::move(stored->memory);
  } else if (!useless && stored->action == Action::kSwap && movable(*stored)) {
    give_up(*stored);
  }
  changed_.notify_all();
}

// The bytes are on the disk, and nobody uses them: the memory goes back.
void Vault::give_up(Stored& stored) {
  if (stored.state) {
    stored.mapping = disk_->map(stored.extent);
    if (stored.mapping == nullptr) {
      stored.refused = true;
      forget_copy(stored);
      return;
    }
  }
  stored.where = Where::kAway;
  managed_ -= stored.nbytes;
  counters_.given_up_bytes += stored.nbytes;
  set_pointer(stored, stored.mapping);
  stored.memory.clear();
}

// --- the ladder ----------------------------------------------------------------------------------

bool Vault::reclaim(std::int64_t size, std::int64_t missing) {
  (void)size;
  const Pause pause;
  Lock lock(mutex_);
  ++counters_.reclaims;
  notice(lock);
  std::int64_t freed = 0;
  for (;;) {
    freed += drop_parked(missing - freed);
    if (freed >= missing) return true;
    start_writes(missing - freed, lock);
    if (leaving_ == 0 && coming_ == 0) break;
    const std::int64_t start = now_ns();
    const std::int64_t before = leaving_ + coming_;
    const std::int64_t allocated = allocator_.budget().allocated();
    ++counters_.waited;
    changed_.wait(lock, [&] {
      return leaving_ + coming_ != before || allocator_.budget().allocated() < allocated;
    });
    counters_.wait_ns += now_ns() - start;
    freed += std::max<std::int64_t>(0, allocated - allocator_.budget().allocated());
  }
  if (freed == 0) ++counters_.refusals;
  return freed > 0;
}

// State first: it is used last, in the optimizer's step. Then the oldest: backward reads it last.
std::int64_t Vault::drop_parked(std::int64_t missing) {
  std::int64_t freed = 0;
  for (const bool state : {true, false}) {
    for (const auto& [birth, stored] : by_birth_) {
      if (freed >= missing) return freed;
      if (stored->state != state || stored->where != Where::kParked || !movable(*stored)) continue;
      give_up(*stored);
      if (stored->where != Where::kAway) continue;
      freed += stored->nbytes;
      ++counters_.released_parked;
    }
  }
  return freed;
}

std::int64_t Vault::start_writes(std::int64_t missing, Lock& lock) {
  enum class Rung { kState, kPlanned, kOldest };
  std::int64_t begun = leaving_bytes_;
  for (const Rung rung : {Rung::kState, Rung::kPlanned, Rung::kOldest}) {
    for (const auto& [birth, stored] : by_birth_) {
      if (begun >= missing) return begun;
      const bool fits = rung == Rung::kState ? stored->state
                        : rung == Rung::kPlanned
                            ? !stored->state && stored->action == Action::kSwap
                            : !stored->state && stored->action != Action::kSwap;
      if (!fits || stored->where != Where::kHere || stored->refused || !movable(*stored)) continue;
      if (!write_out(stored, lock)) continue;
      begun += stored->nbytes;
      ++(rung == Rung::kState     ? counters_.evicted_state
         : rung == Rung::kPlanned ? counters_.evicted_planned
                                  : counters_.evicted_lru);
    }
  }
  return begun;
}

// Without a plan: what is above the mark is written early, so that a miss finds it parked.
void Vault::write_ahead(Lock& lock) {
  std::int64_t above = allocator_.budget().allocated() - passive_mark_ - leaving_bytes_;
  if (!disk_ || above <= 0) return;
  for (const auto& [birth, stored] : by_birth_) {
    if (above <= 0) return;
    if (stored->where == Where::kParked) {
      above -= stored->nbytes;
    } else if (stored->where == Where::kHere && stored->action == Action::kPassive &&
               !stored->state && !stored->refused && only_ours(*stored) &&
               write_out(stored, lock)) {
      above -= stored->nbytes;
    }
  }
}

// --- optimizer state -----------------------------------------------------------------------------

void Vault::adopt_state(const at::Tensor& tensor, bool fresh) {
  if (!disk_ || !tensor.device().is_cpu() || !tensor.has_storage()) return;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (fresh && c10::raw::intrusive_ptr::use_count(storage) != 1) return;  // a view
  Lock lock(mutex_);
  if (storages_.count(storage) != 0 || protected_.count(storage) != 0) return;
  if (static_cast<std::int64_t>(storage->nbytes()) < smallest_) return;
  if (!allocator_.adopt(*storage)) return;
  const StoredPtr stored = manage(tensor, true);
  if (!stored || stored->state) return;
  stored->state = true;
}

void Vault::use(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  Lock lock(mutex_);
  const auto found = storages_.find(tensor.storage().unsafeGetStorageImpl());
  if (found == storages_.end() || !found->second->state) return;
  const StoredPtr stored = found->second;
  ++stored->pins;
  try {
    bring_in(stored, lock);
  } catch (...) {
    --stored->pins;
    throw;
  }
  forget_copy(*stored);
  read_states(stored->birth, lock);
}

// The optimizer goes through its state in the same order every time.
void Vault::read_states(std::int64_t birth, Lock& lock) {
  constexpr std::size_t kMost = 4;
  std::vector<StoredPtr> next;
  for (auto at = by_birth_.upper_bound(birth); at != by_birth_.end() && next.size() < kMost; ++at) {
    if (at->second->state && at->second->where == Where::kAway) next.push_back(at->second);
  }
  read_ahead(next, lock);
}

void Vault::done(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  Lock lock(mutex_);
  const auto found = storages_.find(tensor.storage().unsafeGetStorageImpl());
  if (found != storages_.end() && found->second->pins > 0) --found->second->pins;
}

void Vault::page_out(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  Lock lock(mutex_);
  const auto found = storages_.find(tensor.storage().unsafeGetStorageImpl());
  if (found == storages_.end()) return;
  const StoredPtr stored = found->second;
  if (!stored->state || stored->pins > 0 || stored->where != Where::kHere) return;
  stored->action = Action::kSwap;
  write_out(stored, lock);
}

// --- the end -------------------------------------------------------------------------------------

void Vault::close(bool restore) {
  const Pause pause;
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return leaving_ == 0 && coming_ == 0; });
  std::vector<StoredPtr> all;
  for (const auto& [birth, stored] : by_birth_) all.push_back(stored);
  for (const StoredPtr& stored : all) {
    if (!stored->alive) continue;
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
      forget_copy(*stored);
      stored->extent = {};
    }
  }
  closed_ = true;
  plan_.reset();
  fresh_.clear();
  const std::unique_ptr<DiskIo> disk = std::move(disk_);
  lock.unlock();
}

}  // namespace ithaca
