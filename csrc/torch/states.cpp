// The half of the vault that pages optimizer state: out while the forward runs, back before the
// optimizer asks for it.
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include "vault.h"

namespace ithaca {

void Vault::adopt_state(const at::Tensor& tensor, bool fresh) {
  if (!tier_ || tensor.device() != device_ || !tensor.has_storage()) return;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (fresh && c10::raw::intrusive_ptr::use_count(storage) != 1) return;  // a view
  Lock lock(mutex_);
  if (storages_.count(storage) != 0 || protected_.count(storage) != 0) return;
  if (static_cast<std::int64_t>(storage->nbytes()) < smallest_) return;
  if (!memory_.adopt(*storage)) return;
  const StoredPtr stored = manage(tensor, true);
  if (!stored) return;
  stored->watched = WeakTensor(tensor.getIntrusivePtr());
  state_bytes_ += stored->nbytes;
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
  if (tier_) tier_->before_use(stored->copies);
  forget_copy(*stored);
  read_states(stored->birth, lock);
}

// The optimizer goes through its state in the same order every time.
void Vault::read_states(std::int64_t birth, Lock& lock) {
  constexpr std::size_t kMost = 4;
  std::vector<StoredPtr> next;
  for (auto at = states_.upper_bound(birth); at != states_.end() && next.size() < kMost; ++at) {
    if (at->second->where == Where::kAway) next.push_back(at->second);
  }
  read_ahead(next, lock);
}

void Vault::done(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  Lock lock(mutex_);
  const auto found = storages_.find(tensor.storage().unsafeGetStorageImpl());
  if (found != storages_.end() && found->second->pins > 0) --found->second->pins;
}

// All of it at once, where that fits as the optimizer's steps so far went: then nobody has to look
// at its operators. Otherwise they have to say what they use.
bool Vault::begin_optimizer(std::int64_t optimizer) {
  const Pause pause;
  Lock lock(mutex_);
  besides_state();
  state_at_first_ = state_bytes_;
  const auto known = optimizer_needs_.find(optimizer);
  if (known == optimizer_needs_.end()) return false;
  if (memory_.budget().cap() - known->second < state_bytes_) return false;
  holding_ = true;
  std::vector<StoredPtr> all;
  for (const auto& [birth, stored] : states_) {
    ++stored->pins;
    all.push_back(stored);
  }
  try {
    for (const StoredPtr& stored : all) {
      read_states(stored->birth, lock);
      bring_in(stored, lock);
      if (tier_) tier_->before_use(stored->copies);
      forget_copy(*stored);
    }
  } catch (const c10::OutOfMemoryError&) {
    let_go();
    return false;
  } catch (...) {
    let_go();
    throw;
  }
  return true;
}

void Vault::end_optimizer(std::int64_t optimizer) {
  Lock lock(mutex_);
  // The step that makes the state says nothing of those that find it.
  if (state_bytes_ == state_at_first_) {
    optimizer_needs_[optimizer] = besides_state();
  } else {
    optimizer_needs_.erase(optimizer);
  }
  if (holding_) let_go();
}

void Vault::let_go() {
  holding_ = false;
  for (const auto& [birth, stored] : states_) {
    if (stored->pins > 0) --stored->pins;
  }
}

// The version of a state that the program holds; whoever changes it by hand between a write and
// the loss of the memory has changed what was written.
std::uint32_t Vault::version_of(const Stored& stored) {
  const auto held = stored.watched.lock();
  const bool counts = held && held.get() != c10::UndefinedTensorImpl::singleton() &&
                      !held->is_inference();
  return counts ? held->version_counter().current_version() : stored.written;
}

std::vector<std::int64_t> Vault::state_sizes() {
  Lock lock(mutex_);
  std::vector<std::int64_t> sizes;
  for (const auto& [birth, stored] : states_) sizes.push_back(stored->nbytes);
  return sizes;
}

// Bytes of state that may go as well, beside what is away or has begun to go.
std::int64_t Vault::state_room() const {
  std::int64_t room = state_away_;
  for (const auto& [birth, stored] : states_) {
    if (stored->where != Where::kHere) room -= stored->nbytes;
  }
  return room;
}

// What had to go in the last step will have to go in this one: it is written before somebody waits
// for its room. It stays here as long as nobody does.
void Vault::write_states(Lock& lock) {
  std::int64_t room = state_room();
  for (const auto& [birth, stored] : states_) {
    const bool goes = std::exchange(stored->goes, false);
    if (!goes || stored->where != Where::kHere || stored->refused || !movable(*stored)) continue;
    if (stored->nbytes > room || !write_out(stored, lock)) continue;
    room -= stored->nbytes;
    ++counters_.states_early;
  }
}

// What the step still needs at most, but for state, is known from the last one: what is left is
// for the state that the optimizer will use first. Activations come before it.
void Vault::read_states_early(Lock& lock) {
  constexpr std::int64_t kMost = 4;
  if (states_.empty()) return;
  outlook_.use(plan_.get(), besides_state());
  if (states_here_ == state_bytes_ || coming_ >= kMost) return;
  std::int64_t room = memory_.budget().cap() - outlook_.needed() - states_here_;
  std::vector<StoredPtr> next;
  for (const auto& [birth, stored] : states_) {
    if (stored->where != Where::kAway) continue;
    room -= stored->nbytes;
    if (room < 0 || static_cast<std::int64_t>(next.size()) == kMost) break;
    next.push_back(stored);
  }
  read_ahead(next, lock);
}

// The most that was there since the last call, but for state; never less than that.
std::int64_t Vault::besides_state() {
  const std::int64_t before = std::exchange(states_before_, states_here_);
  const std::int64_t most = memory_.budget().take_window_peak(Budget::Reader::kForesight);
  return most - std::min(before, states_here_);
}

}  // namespace ithaca
