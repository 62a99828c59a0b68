#include "registry.h"
#include "vault.h"

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/anomaly_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

namespace ithaca {

void* (*Pause::begin)() = nullptr;
void (*Pause::end)(void*) = nullptr;
Mutation Vault::mutation = Mutation::kNone;

namespace {

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// The key of the same save in the first micro-batch: what is planned there holds for the others.
constexpr Key kFirstSlot = (Key{1} << 54) - 1;

// How many size buckets lie between two looks; below 0 for another type or rank. A size that was
// never seen takes the decision of the nearest: the number of tokens routed to an expert varies.
std::int64_t apart(std::int64_t planned, std::int64_t look) {
  return planned >> 8 == look >> 8 ? std::abs((planned & 0xff) - (look & 0xff)) : -1;
}

}  // namespace

Registry& registry() {
  static auto* const once = new Registry;
  return *once;
}

at::Tensor alias_of(const at::Tensor& tensor) {
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  return at::Tensor(impl->shallow_copy_and_detach(impl->version_counter(),
                                                  /*allow_tensor_metadata_change=*/true));
}

std::int64_t look_of(const at::Tensor& tensor) {
  const bool plain = tensor.layout() == at::kStrided && tensor.has_storage();
  const std::uint64_t nbytes = plain ? tensor.storage().nbytes() : 0;
  return static_cast<std::int64_t>(tensor.scalar_type()) << 16 | tensor.dim() << 8 |
         (nbytes > 0 ? std::bit_width(nbytes) - 1 : 0);
}

std::string origin_of(const at::Tensor& tensor) {
  const auto& node = tensor.grad_fn();
  if (!node) return "";
  return node->name();
}

// The words of torch's own error, for programs that look at them.
[[noreturn]] void modified_in_place(const at::Tensor& alias, const Packed& packed) {
  std::string origin = packed.origin;
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  if (const auto end = origin.rfind("Backward"); end != std::string::npos) origin.resize(end);
#endif
  TORCH_CHECK(false,
              "one of the variables needed for gradient computation has been modified by an "
              "inplace operation: [torch.", alias.is_cuda() ? "cuda." : "",
              c10::toString(alias.scalar_type()), "Tensor ", alias.sizes(), "]",
              origin.empty()
                  ? ""
                  : c10::str(", which is output ", packed.output, " of ", origin, ","),
              " is at version ", alias._version(), "; expected version ", packed.version,
              " instead. ",
              torch::autograd::AnomalyMode::is_enabled()
                  ? "Hint: the backtrace further above shows the operation that failed to compute "
                    "its gradient. The variable in question was changed in there or anywhere "
                    "later. Good luck!"
                  : "Hint: enable anomaly detection to find the operation that failed to compute "
                    "its gradient, with torch.autograd.set_detect_anomaly(True, "
                    "check_nan=False).");
}

// What stands as the context of a storage's data pointer while we care for it.
struct Vault::Lease {
  StoredPtr stored;
};

void Vault::release_lease(void* context) {
  const std::unique_ptr<Lease> lease(static_cast<Lease*>(context));
  lease->stored->vault->died(lease->stored);
}

const c10::DataPtr& Vault::owner_of(const c10::DataPtr& data) {
  if (data.get_deleter() != &Vault::release_lease) return data;
  return static_cast<Lease*>(data.get_context())->stored->memory;
}

Vault::Vault(Memory& memory, std::unique_ptr<Tier> tier, std::int64_t smallest)
    : memory_(memory), device_(memory.device()), tier_(std::move(tier)), smallest_(smallest) {
  observer_.begin(false);
  step_start_ns_ = now_ns();
}

void Vault::protect(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  Lock lock(mutex_);
  protected_.insert_or_assign(tensor.storage().unsafeGetStorageImpl(),
                              tensor.storage().getWeakStorageImpl());
}

void Vault::unprotect_all() {
  Lock lock(mutex_);
  protected_.clear();
}

// --- saving --------------------------------------------------------------------------------------

at::Tensor Vault::pack(const at::Tensor& tensor, bool named) {
  if (named) {
    if (at::Tensor hollow = skip(tensor); hollow.defined()) return hollow;
  }
  at::Tensor alias = alias_of(tensor);
  Packed packed{WeakTensor(alias.getIntrusivePtr())};
  packed.version = tensor.is_inference() ? 0 : tensor._version();
  packed.origin = origin_of(tensor);
  packed.output = tensor.output_nr();
  const std::int64_t look = look_of(tensor);
  // What could be done without it, for whoever plans.
  const std::shared_ptr<Again> again = named && observer_.detailed() ? recipe_of(tensor) : nullptr;
  {
    Lock lock(mutex_);
    notice(lock);
    actor_ = std::this_thread::get_id();
    ++counters_.saves;
    if (named && !observer_.is_quiet()) packed.key = observer_.save(look);
    packed.stored = manage(tensor, false);
    if (packed.stored) {
      Stored& stored = *packed.stored;
      ++counters_.managed_saves;
      stored.packed.push_back(packed.tensor);
      stored.released = false;
      if (!std::exchange(stored.fresh, true)) fresh_.push_back(packed.stored);
      if (packed.key != kUnnamed) {
        const bool new_name = stored.key == kUnnamed;
        if (new_name) name(packed.stored, packed.key, look);
        log(new_name ? What::kSave : What::kAlias, packed.key,
            new_name ? static_cast<Key>(stored.nbytes) : stored.key, look);
        if (new_name && again) log_cheap(packed.key, *again);
      }
    }
    write_ahead(lock);
  }
  registry().add(alias.unsafeGetTensorImpl(), std::move(packed));
  return alias;
}

at::Tensor Vault::hold(const at::Tensor& tensor) {
  at::Tensor alias = pack(tensor, /*named=*/false);
  Lock lock(mutex_);
  if (tensor.layout() != at::kStrided || !tensor.has_storage()) return alias;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  const auto known = storages_.find(storage);
  if (known == storages_.end() || noted_.count(storage) != 0) return alias;
  Stored& stored = *known->second;
  if (stored.key == kUnnamed && !std::exchange(stored.held, true)) held_ += stored.nbytes;
  return alias;
}

void Vault::count(const Stored& stored, std::int64_t sign) {
  managed_ += sign * stored.nbytes;
  if (stored.state) states_here_ += sign * stored.nbytes;
  if (stored.held) held_ += sign * stored.nbytes;
}

void Vault::name(const StoredPtr& stored, Key key, std::int64_t look) {
  if (std::exchange(stored->held, false)) held_ -= stored->nbytes;
  stored->key = key;
  by_key_[key] = stored;
  if (!plan_) return;
  const Planned* planned = planned_for(key, look);
  count_plan(planned, look);
  if (planned == nullptr) return;
  stored->far = planned->action == Action::kSwapFar;
  stored->action = stored->far ? Action::kSwap : planned->action;
  stored->prefetch = planned->prefetch;
}

const Planned* Vault::planned_for(Key key, std::int64_t look) const {
  if (!plan_) return nullptr;
  for (const Key place : {key, key & kFirstSlot}) {
    const auto found = plan_->find(place);
    if (found == plan_->end()) continue;
    const Planned* nearest = nullptr;
    for (const Planned& planned : found->second) {
      if (apart(planned.look, look) < 0) continue;
      if (nearest == nullptr || apart(planned.look, look) < apart(nearest->look, look)) {
        nearest = &planned;
      }
    }
    if (nearest != nullptr) return nearest;
  }
  return nullptr;
}

void Vault::count_plan(const Planned* planned, std::int64_t look) {
  ++(planned == nullptr           ? counters_.misses
     : planned->look == look ? counters_.hits
                             : counters_.nearby);
}

bool Vault::moves(const at::Tensor& tensor) const {
  if (closed_ || tensor.device() != device_ || tensor.layout() != at::kStrided ||
      !tensor.has_storage() || tensor.is_inference() || (tier_ && !tier_->in_step())) {
    return false;
  }
  const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  return static_cast<std::int64_t>(storage->nbytes()) >= smallest_;
}

StoredPtr Vault::manage(const at::Tensor& tensor, bool state) {
  if (!moves(tensor)) return nullptr;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (const auto known = storages_.find(storage); known != storages_.end()) return known->second;
  const auto nbytes = static_cast<std::int64_t>(storage->nbytes());
  if (!state &&
      (protected_.count(storage) != 0 || !memory_.counts(storage->data_ptr()))) {
    return nullptr;
  }
  auto stored = std::make_shared<Stored>();
  stored->vault = shared_from_this();
  stored->storage = storage;
  stored->nbytes = nbytes;
  stored->birth = births_++;
  void* data = storage->data_ptr().get();
  stored->memory = storage->set_data_ptr({});
  storage->set_data_ptr_noswap(
      {data, new Lease{stored}, &Vault::release_lease, device_});
  storages_.emplace(storage, stored);
  stored->state = state;
  (state ? states_ : by_birth_).emplace(stored->birth, stored);
  count(*stored, 1);
  return stored;
}

void Vault::set_pointer(Stored& stored, void* data) {
  c10::DataPtr before = stored.storage->set_data_ptr({});
  stored.storage->set_data_ptr_noswap(
      {data, before.release_context(), &Vault::release_lease, device_});
}

// Whoever keeps a storage for many steps saves it in each: aliases of earlier ones are forgotten.
bool Vault::only_ours(Stored& stored) {
  const std::size_t owners = c10::raw::intrusive_ptr::use_count(stored.storage);
  if (owners > stored.packed.size()) return false;
  counters_.looks += static_cast<std::int64_t>(stored.packed.size());
  if (mutation != Mutation::kKeepAliases) {
    std::erase_if(stored.packed, [](const WeakTensor& weak) { return weak.expired(); });
  }
  return !stored.packed.empty() && owners == stored.packed.size();
}

bool Vault::movable(Stored& stored) {
  return stored.alive && (stored.state ? stored.pins == 0 : only_ours(stored));
}

// Looks at what was saved lately: planned writes start as soon as nobody else holds the storage.
void Vault::notice(Lock& lock) {
  depart();
  for (std::size_t i = 0; i < fresh_.size();) {
    const StoredPtr stored = fresh_[i];
    if (stored->alive && !movable(*stored)) {
      ++i;
      continue;
    }
    stored->fresh = false;
    fresh_[i] = std::move(fresh_.back());
    fresh_.pop_back();
    if (!stored->alive || stored->released) continue;
    stored->released = true;
    log(What::kReleased, stored->key, stored->key);
    if (stored->action == Action::kSwap && stored->where == Where::kHere) write_out(stored, lock);
  }
}

void Vault::log(What what, Key key, Key other, std::int64_t look) {
  if (!observer_.detailed()) return;
  Budget& budget = memory_.budget();
  // On a device that works behind the program's back, a stamp in place of the time.
  Clock* clock = timing_ ? tier_->clock() : nullptr;
  observer_.log({what, 0, key, other, look,
                 clock != nullptr ? clock->stamp() : now_ns() - step_start_ns_,
                 counters_.wait_ns - step_wait_ns_, memory_.allocated(),
                 budget.take_window_peak(Budget::Reader::kLog), managed_ - held_,
                 observer_.operators(), counters_.given_up_bytes - counters_.taken_bytes});
}

void Vault::log_run(What what) {
  log(what, kUnnamed, kUnnamed);
}

// --- the step ------------------------------------------------------------------------------------

void Vault::enter(std::int64_t module) {
  Lock lock(mutex_);
  notice(lock);
  if (observer_.is_quiet()) return;
  observer_.enter(module);
  log_run();
}

void Vault::leave() {
  Lock lock(mutex_);
  notice(lock);
  if (observer_.is_quiet()) return;
  observer_.leave();
  log_run();
}

void Vault::optimizer() {
  Lock lock(mutex_);
  notice(lock);
  outlook_.end(besides_state());
  observer_.optimizer();
  log_run();
}

void Vault::begin(bool detailed) {
  registry().sweep();
  Again::forget();
  Lock lock(mutex_);
  observer_.begin(detailed);
  outlook_.begin();
  noted_.clear();
  std::erase_if(by_key_, [](const auto& entry) { return entry.second.expired(); });
  step_start_ns_ = now_ns();
  step_wait_ns_ = counters_.wait_ns;
  memory_.budget().take_window_peak(Budget::Reader::kLog);
  time_step();
  log_run();
}

void Vault::time_step() {
  Clock* clock = tier_ ? tier_->clock() : nullptr;
  timing_ = clock != nullptr && observer_.detailed();
  if (clock != nullptr) clock->restart(timing_);
}

void Vault::detail() {
  Lock lock(mutex_);
  if (observer_.detailed()) return;
  observer_.detail();
  memory_.budget().take_window_peak(Budget::Reader::kLog);
  time_step();
  log_run();
}

void Vault::finish_log() {
  Lock lock(mutex_);
  log_run(What::kEnd);
  if (!std::exchange(timing_, false)) return;
  Clock* clock = tier_->clock();
  const std::vector<std::int64_t> times = clock->read();
  const auto waits = clock->waits();
  auto next = waits.begin();
  std::int64_t waited = 0;
  for (Moment& moment : observer_.moments()) {
    for (; next != waits.end() && next->second <= moment.ns; ++next) {
      waited += times[next->second] - times[next->first];
    }
    moment.waited_ns += waited;
    moment.ns = times[moment.ns];
  }
  counters_.wait_ns += waited;
  clock->restart(false);
}

void Vault::replan(std::shared_ptr<const PlanTable> plan, std::int64_t state_away) {
  Lock lock(mutex_);
  state_away_ = state_away;
  plan_ = std::move(plan);
  write_states(lock);
}

Counters Vault::counters() {
  Lock lock(mutex_);
  return counters_;
}

std::int64_t Vault::leaving_bytes() {
  Lock lock(mutex_);
  return leaving_bytes_;
}

std::int64_t Vault::evictable_bytes() {
  Lock lock(mutex_);
  std::int64_t sum = 0;
  for (const Births* which : {&states_, &by_birth_}) {
    for (const auto& [birth, stored] : *which) {
      const bool here = stored->memory.get() != nullptr && stored->where != Where::kLent;
      if (here && movable(*stored)) sum += stored->nbytes;
    }
  }
  return sum;
}

// --- reading -------------------------------------------------------------------------------------

at::Tensor Vault::unpack(const at::Tensor& alias) {
  const std::shared_ptr<const Packed> packed = registry().find(alias.unsafeGetTensorImpl());
  if (!packed) return alias_of(alias);
  const bool watched = !alias.is_inference() && mutation != Mutation::kNoVersionCheck;
  if (watched && alias._version() != packed->version) modified_in_place(alias, *packed);
  if (packed->vault) return packed->vault->make_again(alias, *packed);
  if (!packed->stored) return alias_of(alias);
  const StoredPtr& stored = packed->stored;
  const std::shared_ptr<Vault> self = stored->vault;

  std::optional<Pause> pause;  // ends after the lock
  Lock lock(self->mutex_);
  if (stored->where == Where::kAway || stored->where == Where::kComing) {
    lock.unlock();
    pause.emplace();
    lock.lock();
  }
  self->notice(lock);
  self->actor_ = std::this_thread::get_id();
  self->bring_in(stored, lock);
  if (!self->closed_ && packed->key != kUnnamed && !self->observer_.is_quiet()) {
    self->observer_.use(packed->key);
    self->log(What::kUse, packed->key, stored->key);
  }
  if (self->tier_) self->tier_->before_use(stored->copies);
  self->forget_copy(*stored);
  at::Tensor result = alias_of(alias);
  if (mutation == Mutation::kWrongOffset && result.storage_offset() > 0) {
    result.unsafeGetTensorImpl()->set_storage_offset(result.storage_offset() - 1);
  }
  if (!self->closed_) {
    self->prefetch(stored, lock);
    self->read_states_early(lock);
  }
  if (watched && alias._version() != packed->version) modified_in_place(alias, *packed);
  return result;
}

// From here on others may write to it, in ways that no version tells.
void Vault::forget_copy(Stored& stored) {
  if (stored.where == Where::kLeaving) {
    stored.wanted = true;
  } else if (stored.where == Where::kParked) {
    drop_extent(stored);
    stored.where = Where::kHere;
  }
}

void Vault::drop_extent(Stored& stored) {
  if (tier_) tier_->give_back(std::exchange(stored.extent, {}), stored.copies);
}

void Vault::bring_in(const StoredPtr& stored, Lock& lock) {
  bool asked = false;
  while (stored->where == Where::kAway || stored->where == Where::kComing) {
    const std::int64_t start = now_ns();
    if (stored->where == Where::kAway) {
      TORCH_CHECK(!asked || stored->error == 0, "a saved tensor of ", stored->nbytes,
                  " bytes could not be read back from the disk: ", std::strerror(stored->error));
      ++counters_.loads_on_demand;
      asked = true;
      stored->error = 0;
      stored->where = Where::kComing;
      c10::DataPtr memory;
      lock.unlock();
      try {
        memory = memory_.allocate(static_cast<std::size_t>(stored->nbytes));
      } catch (...) {
        lock.lock();
        stored->where = Where::kAway;
        changed_.notify_all();
        throw;
      }
      lock.lock();
      read_in(stored, std::move(memory), lock);
    } else if (!asked) {
      ++counters_.loads_waited;
      asked = true;
    }
    changed_.wait(lock, [&] { return stored->where != Where::kComing; });
    counters_.wait_ns += now_ns() - start;
  }
  TORCH_CHECK(stored->where != Where::kLost, "a saved tensor of ", stored->nbytes,
              " bytes was away when its memory session ended with an error; run the "
              "backward inside of the session");
}

void Vault::read_in(const StoredPtr& stored, c10::DataPtr memory, Lock& lock) {
  (void)lock;
  stored->memory = std::move(memory);
  count(*stored, 1);
  counters_.taken_bytes += stored->nbytes;
  ++coming_;
  if (mutation == Mutation::kEarlyReload && stored->alive) {
    set_pointer(*stored, stored->memory.get());
    stored->where = Where::kParked;
    --coming_;
    changed_.notify_all();
    return;
  }
  const Tier::Ends ends =
      tier_->read(static_cast<char*>(stored->memory.get()), stored->nbytes, stored->extent,
                  stored->copies, [this, stored](int error) {
                    Lock later(mutex_);
                    arrived(stored, error);
                  });
  if (ends != Tier::Ends::kLater) arrived(stored, ends == Tier::Ends::kInOrder ? 0 : EIO);
}

// With the lock.
void Vault::arrived(const StoredPtr& stored, int error) {
  --coming_;
  if (stored->alive && error == 0) {
    set_pointer(*stored, stored->memory.get());
    stored->mapping.reset();
    stored->where = Where::kParked;
    (stored->state ? counters_.state_in_bytes : counters_.in_bytes) += stored->nbytes;
  } else {
    settle(*stored);
    stored->memory.clear();
    count(*stored, -1);
    if (!stored->alive) drop_extent(*stored);
    stored->error = error;
    stored->where = Where::kAway;
  }
  changed_.notify_all();
}

// Reads what will be used next, as long as nobody needs to make room for it: in the order of the
// plan, or else from the youngest to the oldest, as backward goes.
void Vault::prefetch(const StoredPtr& used, Lock& lock) {
  constexpr std::size_t kMost = 8;
  std::vector<StoredPtr> next;
  if (used->action != Action::kPassive && !used->prefetch.empty()) {
    for (const Key key : used->prefetch) {
      const auto found = by_key_.find(key);
      if (found == by_key_.end()) continue;
      if (StoredPtr stored = found->second.lock()) next.push_back(std::move(stored));
    }
  } else {
    auto at = by_birth_.lower_bound(used->birth);
    while (at != by_birth_.begin() && next.size() < kMost) {
      --at;
      if (at->second->where == Where::kAway) next.push_back(at->second);
    }
  }
  read_ahead(next, lock);
}

void Vault::read_ahead(const std::vector<StoredPtr>& next, Lock& lock) {
  const Budget& budget = memory_.budget();
  for (const StoredPtr& stored : next) {
    if (!stored->alive || stored->where != Where::kAway || stored->error != 0) continue;
    const std::int64_t above =
        memory_.allocated() + stored->nbytes - (budget.cap() - budget.largest());
    // What left in the device's order may still be here, although it is planned to be away.
    if (above > 0 && drop_parked(above, /*planned=*/true) < above) break;
    stored->where = Where::kComing;
    lock.unlock();
    std::optional<c10::DataPtr> memory =
        memory_.allocate_if_free(static_cast<std::size_t>(stored->nbytes));
    lock.lock();
    if (!memory) {
      stored->where = Where::kAway;
      if (!stored->alive) drop_extent(*stored);
      changed_.notify_all();
      break;
    }
    ++counters_.prefetched;
    read_in(stored, std::move(*memory), lock);
  }
}

void Vault::died(const StoredPtr& stored) {
  c10::DataPtr memory;
  {
    Lock lock(mutex_);
    log(What::kFreed, stored->key, stored->key);
    stored->alive = false;
    if (stored->state) state_bytes_ -= stored->nbytes;
    storages_.erase(stored->storage);
    (stored->state ? states_ : by_birth_).erase(stored->birth);
    switch (stored->where) {
      case Where::kLent:
        count(*stored, 1);
        own_pages(*stored);
        [[fallthrough]];
      case Where::kHere:
      case Where::kParked:
        count(*stored, -1);
        settle(*stored);
        memory = std::move(stored->memory);
        [[fallthrough]];
      case Where::kAway:
      case Where::kLost:
        stored->mapping.reset();
        drop_extent(*stored);
        break;
      case Where::kLeaving:  // written() cleans up
      case Where::kComing:   // arrived() does
        break;
    }
  }
  registry().forget(*stored);
}

}  // namespace ithaca
