// Holds what autograd saves, under a budget: knows for every storage where its bytes are, moves
// them to a tier and back, and brings them back whenever they are asked for.
//
// A storage stays the same object all the time; only its data pointer changes. So views, offsets
// and strides need no care: whoever has the tensor has the right one. Bytes are moved only while
// nobody but autograd, through the aliases that we packed, can reach the storage.
//
// Knows torch, not Python. Never takes Python's lock, and never allocates while it holds its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../observer.h"
#include "../outlook.h"
#include "again.h"
#include "memory.h"
#include "tier.h"

namespace ithaca {

class Vault;

using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

enum class Where {
  kHere,
  kLeaving,  // here, and being written
  kParked,   // here, and on the tier
  kAway,     // on the tier only
  kComing,   // on the tier, and being read
  kLent,     // here by its address, but its pages are those of the disk's file
  kLost,     // a session that ended in an error took it along
};

enum class Action : std::uint8_t {
  kKeep,
  kSwap,
  kRecompute,  // by its block
  kPassive,
  kSwapFar,
  kAgain,  // by one operator
};

// One storage in our care.
struct Stored {
  std::shared_ptr<Vault> vault;
  c10::StorageImpl* storage = nullptr;  // valid as long as `alive`
  std::int64_t nbytes = 0;
  Key key = kUnnamed;  // of its first save
  std::int64_t birth = 0;  // order of first saves in the session
  Where where = Where::kHere;
  Action action = Action::kPassive;  // never kSwapFar
  bool far = false;  // is planned to go to the second tier
  bool alive = true;
  bool fresh = false;      // waits in fresh_ for the rest to let go of it
  bool released = false;   // nobody but autograd held it when we last looked
  bool wanted = false;     // read since the write began
  bool refused = false;    // could not be written
  bool held = false;       // by a run of a block, and no save has a name for it
  bool state = false;      // optimizer state or a gradient: moved while others hold it
  int pins = 0;            // operators that run on it now; for state
  bool goes = false;       // had to leave in the last step; for state
  WeakTensor watched{c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>()};
  std::uint32_t written = 0;  // version of what is watched when it was written; for state
  int error = 0;
  Extent extent;
  Copies copies;
  c10::DataPtr memory;     // the real owner of the bytes
  std::shared_ptr<void> mapping;  // state that is away can be read here
  std::vector<WeakTensor> packed;
  std::vector<Key> prefetch;  // to be read when this one is used
};
using StoredPtr = std::shared_ptr<Stored>;
using Births = std::map<std::int64_t, StoredPtr>;

// One saved tensor.
struct Packed {
  explicit Packed(WeakTensor alias) : tensor(std::move(alias)) {}

  StoredPtr stored;  // null: only its version is watched
  std::uint32_t version = 0;
  Key key = kUnnamed;
  Key first = kUnnamed;  // of the first save of the same storage
  std::string origin;  // the node whose output it was when it was saved
  std::uint32_t output = 0;
  WeakTensor tensor;
  std::weak_ptr<Again> again;  // how it is made, if it is hollow
  std::shared_ptr<Vault> vault;  // of a hollow one
};

struct Planned {
  std::int64_t look;  // dtype, rank and size bucket: with the key, the identity
  Action action;
  std::vector<Key> prefetch;
};
// The looks that are planned for under each key.
using PlanTable = std::unordered_map<Key, std::vector<Planned>>;

struct Counters {
  std::int64_t saves = 0, managed_saves = 0, hits = 0, nearby = 0, misses = 0;
  std::int64_t reclaims = 0, released_parked = 0, waited = 0, evicted_planned = 0, evicted_lru = 0,
               evicted_state = 0, states_early = 0, lent = 0, refusals = 0;
  std::int64_t looks = 0;  // at aliases, to see whether autograd alone holds a storage
  std::int64_t noted = 0, replays = 0, skipped = 0, made_again = 0;
  std::int64_t loads_on_demand = 0, loads_waited = 0, prefetched = 0;
  std::int64_t failed_writes = 0, disk_full = 0, in_order = 0;
  std::int64_t wait_ns = 0, out_bytes = 0, in_bytes = 0, state_out_bytes = 0, state_in_bytes = 0;
  std::int64_t given_up_bytes = 0, taken_bytes = 0;  // memory, of saved tensors
};

class Vault final : public Reclaimer, public std::enable_shared_from_this<Vault> {
 public:
  // `tier` may be null: then nothing can leave. Storages below `smallest` bytes stay.
  Vault(Memory& memory, std::unique_ptr<Tier> tier, std::int64_t smallest);

  // Storages that never move: parameters, buffers, whatever the user names.
  void protect(const at::Tensor& tensor);
  void unprotect_all();

  // An alias of a tensor that autograd saves, to be saved in its place. One that is not `named` is
  // held for us, not for autograd.
  at::Tensor pack(const at::Tensor& tensor, bool named = true);
  // The same for an input of a block that will be run again: nobody else may know of its bytes, so
  // whoever plans has to find them among those that are there anyhow.
  at::Tensor hold(const at::Tensor& tensor);
  // The tensor behind the alias; waits for its bytes. Throws stock autograd's error when it was
  // changed since, and c10::OutOfMemoryError when there is no room for it.
  static at::Tensor unpack(const at::Tensor& alias);

  // For a tensor that will be computed again with its block: a hollow one, of the same sizes and
  // version but without bytes, to be saved in its place. Undefined if it has to be packed instead.
  at::Tensor note(const at::Tensor& tensor);
  // Throws stock autograd's error when what was noted was changed since.
  static void used(const at::Tensor& hollow);
  // Backward reads what was noted.
  void read(const at::Tensor& hollow);
  // Between these, operators and saves of our own are not counted.
  void replay(bool begins);
  // The name of a tensor's storage, or kUnnamed.
  Key key_of(const at::Tensor& tensor);

  void enter(std::int64_t module);
  void leave();
  void optimizer();
  // Ends a step, begins the next.
  void begin(bool detailed);
  // Keeps the log of this step from here on.
  void detail();
  void finish_log();
  // A forward begins, and this is the plan; null for none.
  // So many bytes of state may be away under it, and more only where nothing else can go.
  void replan(std::shared_ptr<const PlanTable> plan, std::int64_t state_away);
  // Bytes of each state in our care, the oldest first.
  std::vector<std::int64_t> state_sizes();

  // Optimizer state and gradients. `use` brings it in for an operator and holds it until `done`.
  // A `fresh` one only if it is not a view of something else.
  void adopt_state(const at::Tensor& tensor, bool fresh);
  void use(const at::Tensor& tensor);
  void done(const at::Tensor& tensor);
  // The optimizer's step. True: all state is here until it ends, and nobody has to tell its use.
  bool begin_optimizer(std::int64_t optimizer);
  void end_optimizer(std::int64_t optimizer);

  bool reclaim(std::int64_t size, std::int64_t missing) override;

  // Brings back everything that is still wanted (restore) or gives it up.
  void close(bool restore);

  Counters counters();
  Observer& observer() { return observer_; }
  Tier* tier() { return tier_.get(); }
  DiskIo* disk() { return tier_ ? tier_->disk() : nullptr; }
  Memory& memory() { return memory_; }
  std::int64_t managed_bytes() const { return managed_; }
  std::int64_t alive() const { return static_cast<std::int64_t>(storages_.size()); }
  std::int64_t evictable_bytes();
  std::int64_t leaving_bytes();
  void set_passive_mark(std::int64_t bytes) { passive_mark_ = bytes; }

  static Mutation mutation;
  // What owns the bytes behind a data pointer: for one in our care, not the pointer itself.
  static const c10::DataPtr& owner_of(const c10::DataPtr& data);

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Lease;
  struct Quiet;
  static void release_lease(void* context);

  at::Tensor skip(const at::Tensor& tensor);
  static std::shared_ptr<Again> recipe_of(const at::Tensor& tensor);
  at::Tensor hollow_of(const at::Tensor& tensor, Packed packed, std::shared_ptr<Again> again);
  at::Tensor make_again(const at::Tensor& hollow, const Packed& packed);
  void log_cheap(Key key, const Again& again);
  bool moves(const at::Tensor& tensor) const;
  StoredPtr manage(const at::Tensor& tensor, bool state);
  void name(const StoredPtr& stored, Key key, std::int64_t look);
  const Planned* planned_for(Key key, std::int64_t look) const;
  void count_plan(const Planned* planned, std::int64_t look);
  // Bytes that come into our care, or leave it or memory.
  void count(const Stored& stored, std::int64_t sign);
  void set_pointer(Stored& stored, void* data);
  bool only_ours(Stored& stored);
  bool movable(Stored& stored);
  void notice(Lock& lock);
  void log(What what, Key key, Key other, std::int64_t look = 0);

  void log_run(What what = What::kRun);
  void time_step();

  bool write_out(const StoredPtr& stored, Lock& lock);
  c10::DataPtr written(const StoredPtr& stored, int error);
  void depart();
  void settle(Stored& stored);
  void overwrite(const Stored& stored);
  void give_up(Stored& stored);
  void bring_in(const StoredPtr& stored, Lock& lock);
  void read_in(const StoredPtr& stored, c10::DataPtr memory, Lock& lock);
  void arrived(const StoredPtr& stored, int error);
  void prefetch(const StoredPtr& used, Lock& lock);
  void read_ahead(const std::vector<StoredPtr>& next, Lock& lock);
  void read_states(std::int64_t birth, Lock& lock);
  void read_states_early(Lock& lock);
  void write_states(Lock& lock);
  std::int64_t besides_state();
  void let_go();
  std::int64_t state_room() const;
  static std::uint32_t version_of(const Stored& stored);
  void forget_copy(Stored& stored);
  void drop_extent(Stored& stored);
  void died(const StoredPtr& stored);

  std::int64_t drop_parked(std::int64_t missing, bool planned = false);
  std::int64_t drop_parked(const Births& which, std::int64_t missing, std::int64_t most,
                           bool planned);
  std::int64_t start_writes(std::int64_t missing, Lock& lock);
  std::int64_t lend(std::int64_t missing, Lock& lock);
  bool lend(Stored& stored);
  std::int64_t lend_loose(std::int64_t missing, Lock& lock);
  void own_pages(Stored& stored);
  void take_back(Stored& stored);
  void write_ahead(Lock& lock);

  Memory& memory_;
  const c10::Device device_;
  std::unique_ptr<Tier> tier_;
  const std::int64_t smallest_;
  Observer observer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<c10::StorageImpl*, StoredPtr> storages_;
  // In order of birth: what autograd saved, and optimizer state.
  Births by_birth_, states_;
  std::unordered_map<Key, std::weak_ptr<Stored>> by_key_;
  std::vector<StoredPtr> fresh_;
  std::deque<StoredPtr> departing_;
  struct Noted {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    Key first;
    std::weak_ptr<Again> again;
  };
  std::unordered_map<const c10::StorageImpl*, Noted> noted_;
  std::unordered_map<const c10::StorageImpl*, c10::weak_intrusive_ptr<c10::StorageImpl>> protected_;
  std::shared_ptr<const PlanTable> plan_;
  Counters counters_;
  std::int64_t births_ = 0, leaving_ = 0, leaving_bytes_ = 0, coming_ = 0;
  std::int64_t passive_mark_ = Budget::kNoCap;
  std::atomic<std::int64_t> managed_{0};
  std::int64_t held_ = 0;  // of these bytes, what nobody plans for
  std::int64_t state_away_ = Budget::kNoCap;  // planned, at most
  std::int64_t state_bytes_ = 0, states_here_ = 0, states_before_ = 0;
  std::unordered_map<std::int64_t, std::int64_t> optimizer_needs_;  // at most, but for state
  std::int64_t state_at_first_ = 0;  // when the optimizer began
  bool holding_ = false;  // all state, for the optimizer
  Outlook outlook_;
  std::int64_t step_start_ns_ = 0, step_wait_ns_ = 0;
  std::thread::id actor_;  // who saves and reads
  bool closed_ = false;
  bool timing_ = false;  // by the tier's clock
};

// Lets other Python threads run while this one waits; does nothing where Python's lock is not held.
struct Pause {
  Pause() : state(begin != nullptr ? begin() : nullptr) {}
  ~Pause() {
    if (state != nullptr) end(state);
  }
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
  void* state;
  static void* (*begin)();
  static void (*end)(void*);
};

}  // namespace ithaca
