// The half of the vault that saves nothing: tensors that are computed again, with their block or by
// one operator.
#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "registry.h"
#include "vault.h"

namespace ithaca {

// Operators in its life are our own.
struct Vault::Quiet {
  explicit Quiet(Vault& of) : vault(of) { vault.replay(true); }
  ~Quiet() { vault.replay(false); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  Vault& vault;
};

// --- what is computed again ----------------------------------------------------------------------

at::Tensor Vault::note(const at::Tensor& tensor) {
  Packed packed{WeakTensor(tensor.getIntrusivePtr())};
  const std::int64_t look = look_of(tensor);
  {
    Lock lock(mutex_);
    if (observer_.is_quiet() || !moves(tensor)) return {};
    const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    if (storages_.count(const_cast<c10::StorageImpl*>(storage)) != 0 ||
        protected_.count(storage) != 0 || !memory_.counts(storage->data_ptr())) {
      return {};
    }
    const Key next = observer_.current().key(observer_.current().saves);
    const Planned* planned = planned_for(next, look);
    if (planned != nullptr && planned->action != Action::kRecompute) return {};
    notice(lock);
    ++counters_.saves;
    ++counters_.noted;
    packed.key = observer_.save(look);
    const auto known = noted_.find(storage);
    packed.first = known == noted_.end() ? packed.key : known->second.first;
    if (known == noted_.end()) {
      if (plan_) count_plan(planned, look);
      noted_.emplace(storage, Noted{tensor.storage().getWeakStorageImpl(), packed.key, {}});
      log(What::kNoted, packed.key, static_cast<Key>(storage->nbytes()), look);
    } else {
      log(What::kAlias, packed.key, packed.first, look);
    }
  }
  return hollow_of(tensor, std::move(packed), nullptr);
}

// Has everything of the tensor but its bytes, and owns what makes them again.
at::Tensor Vault::hollow_of(const at::Tensor& tensor, Packed packed, std::shared_ptr<Again> again) {
  packed.version = tensor._version();
  packed.origin = origin_of(tensor);
  packed.output = tensor.output_nr();
  packed.again = again;
  at::Tensor hollow = alias_of(tensor);
  c10::DataPtr owner(nullptr, tensor.device());
  if (again) {
    owner = c10::DataPtr(nullptr, new std::shared_ptr<Again>(std::move(again)),
                         [](void* held) { delete static_cast<std::shared_ptr<Again>*>(held); },
                         tensor.device());
  }
  hollow.unsafeGetTensorImpl()->set_storage_keep_dtype(c10::Storage(
      c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), 0,
                                            std::move(owner), nullptr, /*resizable=*/false)));
  packed.tensor = WeakTensor(hollow.getIntrusivePtr());
  registry().add(hollow.unsafeGetTensorImpl(), std::move(packed));
  return hollow;
}

// --- what one operator makes again ---------------------------------------------------------------

// A hollow tensor in the place of one that the plan says is made again; undefined if it says
// something else, or if nothing makes it.
at::Tensor Vault::skip(const at::Tensor& tensor) {
  const std::int64_t look = look_of(tensor);
  std::shared_ptr<Again> again;
  const c10::StorageImpl* storage = nullptr;
  {
    Lock lock(mutex_);
    if (!plan_ || observer_.is_quiet() || !moves(tensor)) return {};
    storage = tensor.storage().unsafeGetStorageImpl();
    if (const auto known = noted_.find(storage); known != noted_.end()) {
      again = known->second.again.lock();
    }
    if (!again) {
      if (storages_.count(const_cast<c10::StorageImpl*>(storage)) != 0) return {};
      const Planned* planned =
          planned_for(observer_.current().key(observer_.current().saves), look);
      if (planned == nullptr || planned->action != Action::kAgain) return {};
    }
  }
  const bool first = !again;
  if (!first && tensor._version() != 0) return {};  // changed since it was made
  if (first) again = recipe_of(tensor);
  if (!again) return {};
  Packed packed{WeakTensor(tensor.getIntrusivePtr())};
  packed.vault = shared_from_this();
  Lock lock(mutex_);
  notice(lock);
  actor_ = std::this_thread::get_id();
  ++counters_.saves;
  ++counters_.skipped;
  packed.key = packed.first = observer_.save(look);
  if (first) {
    count_plan(planned_for(packed.key, look), look);
    noted_.insert_or_assign(storage,
                            Noted{tensor.storage().getWeakStorageImpl(), packed.key, again});
    log(What::kNoted, packed.key, static_cast<Key>(storage->nbytes()), look);
    log_cheap(packed.key, *again);
  } else {
    packed.first = noted_.at(storage).first;
    log(What::kAlias, packed.key, packed.first, look);
  }
  lock.unlock();
  return hollow_of(tensor, std::move(packed), std::move(again));
}

// Null also when an input has been changed since it was saved.
std::shared_ptr<Again> Vault::recipe_of(const at::Tensor& tensor) {
  std::shared_ptr<Again> again = Again::of(tensor);
  if (!again) return nullptr;
  for (const at::Tensor& input : again->inputs) {
    if (!input.defined()) continue;
    const std::shared_ptr<const Packed> packed = registry().find(input.unsafeGetTensorImpl());
    if (!packed || input.is_inference() || input._version() != packed->version) return nullptr;
  }
  return again;
}

void Vault::log_cheap(Key key, const Again& again) {
  if (!observer_.detailed()) return;
  for (const at::Tensor& input : again.inputs) {
    if (!input.defined()) continue;
    const std::shared_ptr<const Packed> packed = registry().find(input.unsafeGetTensorImpl());
    const Key first = !packed           ? kUnnamed
                      : packed->stored  ? packed->stored->key
                      : packed->vault   ? packed->first
                                        : kUnnamed;
    log(What::kCheap, key, first, again.beside_bytes());
  }
}

at::Tensor Vault::make_again(const at::Tensor& hollow, const Packed& packed) {
  const std::shared_ptr<Again> again = packed.again.lock();
  TORCH_CHECK(again, "a saved tensor has lost what makes it again");
  {
    Lock lock(mutex_);
    if (!closed_ && !observer_.is_quiet()) {
      observer_.use(packed.key);
      log(What::kUse, packed.key, packed.first);
    }
  }
  const std::lock_guard making(again->mutex);
  if (!again->value.defined()) {
    const Quiet quiet(*this);
    std::vector<at::Tensor> inputs;
    for (const at::Tensor& input : again->inputs) {
      inputs.push_back(input.defined() ? unpack(input) : at::Tensor());
    }
    const at::Tensor made = again->make(inputs);
    TORCH_CHECK(made.strides() == again->strides && made.scalar_type() == hollow.scalar_type(),
                "a saved tensor was not the same when it was made again");
    again->value = pack(made, /*named=*/false);
    Lock lock(mutex_);
    ++counters_.made_again;
  }
  const at::Tensor bytes = unpack(again->value);
  at::Tensor result = alias_of(hollow);
  result.unsafeGetTensorImpl()->set_storage_keep_dtype(bytes.storage());
  if (mutation == Mutation::kWrongOffset && result.storage_offset() > 0) {
    result.unsafeGetTensorImpl()->set_storage_offset(result.storage_offset() - 1);
  }
  return result;
}

void Vault::used(const at::Tensor& hollow) {
  const std::shared_ptr<const Packed> packed = registry().find(hollow.unsafeGetTensorImpl());
  if (!packed) return;
  if (mutation != Mutation::kNoVersionCheck && hollow._version() != packed->version) {
    modified_in_place(hollow, *packed);
  }
}

void Vault::read(const at::Tensor& hollow) {
  const std::shared_ptr<const Packed> packed = registry().find(hollow.unsafeGetTensorImpl());
  Lock lock(mutex_);
  if (!packed || observer_.is_quiet()) return;
  observer_.use(packed->key);
  log(What::kUse, packed->key, packed->first);
}

void Vault::replay(bool begins) {
  Lock lock(mutex_);
  if (begins) ++counters_.replays;
  if (begins && !observer_.is_quiet()) log_run(What::kReplay);
  observer_.quiet(begins);
  if (!begins && !observer_.is_quiet()) log_run(What::kReplayed);
}

Key Vault::key_of(const at::Tensor& tensor) {
  if (tensor.layout() != at::kStrided || !tensor.has_storage()) return kUnnamed;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  Lock lock(mutex_);
  if (const auto known = storages_.find(storage); known != storages_.end()) {
    return known->second->key;
  }
  const auto noted = noted_.find(storage);
  return noted == noted_.end() ? kUnnamed : noted->second.first;
}

}  // namespace ithaca
