// The one file that knows torch and Python: registers the operators as torch.ops.ithaca.*.
//
// torch releases Python's lock before it calls an operator, and no operator touches Python. What
// autograd calls for every saved tensor is too hot for an operator: those are functions of the
// module.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hash.h"
#include "torch/allocator.h"
#include "torch/device_memory.h"
#include "torch/emulated.h"
#include "torch/graphs.h"
#include "torch/pinned.h"
#include "torch/vault.h"

namespace {

at::Tensor hash128(const at::Tensor& data, std::int64_t seed) {
  TORCH_CHECK(data.device().is_cpu(), "ithaca::hash128 reads tensors on the CPU; this one is on ",
              data.device());
  TORCH_CHECK(data.layout() == at::kStrided && data.is_contiguous() && !data.is_conj() &&
                  !data.is_neg(),
              "ithaca::hash128 reads the memory of a contiguous tensor as it lies; this one has "
              "sizes ", data.sizes(), " but is a view that is not contiguous, is sparse, or has a "
              "pending conjugation or negation; call .contiguous() first");
  const ithaca::Hash128 hash =
      ithaca::hash128(data.const_data_ptr(), data.nbytes(), static_cast<std::uint64_t>(seed));
  at::Tensor halves = at::empty({2}, at::TensorOptions().dtype(at::kLong));
  auto* words = halves.mutable_data_ptr<std::int64_t>();
  words[0] = static_cast<std::int64_t>(hash.low);
  words[1] = static_cast<std::int64_t>(hash.high);
  return halves;
}

// --- memory --------------------------------------------------------------------------------------

using ithaca::CountedAllocator;
using ithaca::Key;
using ithaca::Vault;

// The session that is open, and its callback in torch's record of functions. Never destroyed: a
// process may end with a session open, and its threads then still use it.
struct Session {
  std::shared_ptr<Vault> vault;
  std::shared_ptr<ithaca::Emulated> emulated;
  at::CallbackHandle callback = 0;
  struct Plan {
    std::shared_ptr<const ithaca::PlanTable> table;
    std::int64_t state_away = ithaca::Budget::kNoCap;
  };
  std::unordered_map<std::int64_t, Plan> plans;
};
Session& session() {
  static auto* const once = new Session;
  return *once;
}
Vault& open_vault() {
  TORCH_CHECK(session().vault, "no memory session is open");
  return *session().vault;
}

ithaca::Memory& memory_of(at::Device device) {
  if (device.is_cpu()) return CountedAllocator::installed();
  return ithaca::device_memory(device);
}
// What the open session counts; the CPU's without one.
ithaca::Memory& counted() {
  return session().vault ? session().vault->memory() : CountedAllocator::installed();
}

std::unique_ptr<at::ObserverContext> observe(const at::RecordFunction& function) {
  ithaca::Observer& observer = session().vault->observer();
  if (!observer.is_quiet()) observer.op(function.name());
  return nullptr;
}

void memory_observe(bool on) {
  Session& open = session();
  if (open.callback != 0) at::removeCallback(std::exchange(open.callback, 0));
  if (on && open.vault) {
    open.callback = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&observe).scopes({at::RecordScope::FUNCTION}));
  }
}

void memory_install() { CountedAllocator::installed(); }

std::unique_ptr<ithaca::DiskIo> disk_in(const std::string& folder, std::int64_t limit,
                                       std::int64_t threads) {
  try {
    return std::make_unique<ithaca::DiskIo>(folder, limit, static_cast<int>(threads));
  } catch (const std::exception& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

// `host`: bytes of host memory that a device's tensors may go to.
void memory_open(at::Device device, std::int64_t cap, std::int64_t smallest, std::int64_t host,
                 std::string folder, std::int64_t limit, std::int64_t threads) {
  TORCH_CHECK(!session().vault, "a memory session is open already; there is one in a process");
  ithaca::Memory& memory = memory_of(device);
  std::unique_ptr<ithaca::DiskIo> disk;
  if (!folder.empty()) disk = disk_in(folder, limit, threads);
  std::shared_ptr<ithaca::Engine> engine;
  if (session().emulated) engine = session().emulated;
  if (!device.is_cpu()) engine = std::make_shared<ithaca::Accelerator>(device);
  std::unique_ptr<ithaca::Tier> tier;
  if (engine) {
    tier = std::make_unique<ithaca::PinnedTier>(engine, host, std::move(disk));
  } else if (disk) {
    tier = std::make_unique<ithaca::DiskTier>(std::move(disk));
  }
  session().vault = std::make_shared<Vault>(memory, std::move(tier), smallest);
  memory.budget().reset_peak();
  memory.budget().reset_largest();
  memory.begin();
  memory.budget().set_reclaimer(session().vault.get());
  memory.budget().set_cap(cap);
}

// For tests: sessions on the CPU that are opened from here on move tensors as on a device.
void memory_emulate(bool on) {
  session().emulated = on ? std::make_shared<ithaca::Emulated>() : nullptr;
}
bool memory_emulated() { return session().emulated != nullptr; }

void memory_close(bool restore) {
  open_vault();
  memory_observe(false);
  ithaca::Budget& budget = open_vault().memory().budget();
  budget.set_cap(ithaca::Budget::kNoCap);
  budget.set_reclaimer(nullptr);
  const std::shared_ptr<Vault> vault = std::exchange(session().vault, nullptr);
  session().plans.clear();
  vault->close(restore);
}

void memory_cap(std::int64_t cap) {
  counted().budget().set_cap(cap < 0 ? ithaca::Budget::kNoCap : cap);
}

bool memory_adopt(const at::Tensor& tensor) {
  const at::Device device = tensor.device();
  return tensor.has_storage() && (device.is_cpu() || ithaca::has_memory(device)) &&
         memory_of(device).adopt(*tensor.storage().unsafeGetStorageImpl());
}

void memory_exempt(bool exempt) { CountedAllocator::exempt_this_thread(exempt); }

void memory_protect(const at::Tensor& tensor) { open_vault().protect(tensor); }
void memory_state(const at::Tensor& tensor) { open_vault().adopt_state(tensor, false); }
void memory_created(at::TensorList tensors) {
  for (const at::Tensor& tensor : tensors) open_vault().adopt_state(tensor, true);
}
void memory_use(at::TensorList tensors) {
  for (const at::Tensor& tensor : tensors) open_vault().use(tensor);
}
void memory_done(at::TensorList tensors) {
  for (const at::Tensor& tensor : tensors) open_vault().done(tensor);
}
bool memory_begin_optimizer(std::int64_t which) { return open_vault().begin_optimizer(which); }
void memory_end_optimizer(std::int64_t which) { open_vault().end_optimizer(which); }
void memory_optimizer() { open_vault().optimizer(); }
void memory_replay(bool begins) {
  if (session().vault) session().vault->replay(begins);
}
std::int64_t memory_key_of(const at::Tensor& tensor) {
  return static_cast<std::int64_t>(open_vault().key_of(tensor));
}
void memory_normed(const at::Tensor& output, double epsilon) {
  ithaca::Again::normed(output, epsilon);
}
void memory_passive_mark(std::int64_t bytes) { open_vault().set_passive_mark(bytes); }

// Rows of (key, look, action, number of keys to prefetch, these keys), one behind the other.
std::shared_ptr<const ithaca::PlanTable> table_of(at::IntArrayRef rows) {
  if (rows.empty()) return nullptr;
  auto table = std::make_shared<ithaca::PlanTable>();
  for (std::size_t at = 0; at + 4 <= rows.size();) {
    ithaca::Planned planned{rows[at + 1], static_cast<ithaca::Action>(rows[at + 2]), {}};
    const auto count = static_cast<std::size_t>(rows[at + 3]);
    for (std::size_t i = 0; i < count && at + 4 + i < rows.size(); ++i) {
      planned.prefetch.push_back(static_cast<Key>(rows[at + 4 + i]));
    }
    (*table)[static_cast<Key>(rows[at])].push_back(std::move(planned));
    at += 4 + count;
  }
  return table;
}

// Without `state_away` all state may go.
void memory_store_plan(std::int64_t number, at::IntArrayRef rows,
                       std::optional<std::int64_t> state_away) {
  open_vault();
  session().plans[number] = {table_of(rows), state_away.value_or(ithaca::Budget::kNoCap)};
}
void memory_use_plan(std::int64_t number) {
  const auto found = session().plans.find(number);
  const Session::Plan plan = found == session().plans.end() ? Session::Plan() : found->second;
  open_vault().replan(plan.table, plan.state_away);
}

void memory_begin(bool detailed) { open_vault().begin(detailed); }
void memory_detail() { open_vault().detail(); }

at::Tensor table(const std::vector<std::int64_t>& values, std::int64_t columns) {
  at::Tensor rows = at::empty({static_cast<std::int64_t>(values.size()) / columns, columns},
                              at::TensorOptions().dtype(at::kLong));
  std::copy(values.begin(), values.end(), rows.mutable_data_ptr<std::int64_t>());
  return rows;
}

at::Tensor memory_state_sizes() { return table(open_vault().state_sizes(), 1); }

at::Tensor memory_runs() {
  std::vector<std::int64_t> values;
  for (const ithaca::Run& run : open_vault().observer().runs()) {
    values.insert(values.end(), {static_cast<std::int64_t>(run.phase), run.slot, run.module,
                                 run.visit, run.operators, run.saves,
                                 static_cast<std::int64_t>(run.hash)});
  }
  return table(values, 7);
}

at::Tensor memory_moments() {
  std::vector<std::int64_t> values;
  open_vault().finish_log();
  for (const ithaca::Moment& moment : open_vault().observer().moments()) {
    values.insert(values.end(),
                  {static_cast<std::int64_t>(moment.what), moment.run,
                   static_cast<std::int64_t>(moment.key), static_cast<std::int64_t>(moment.other),
                   moment.look, moment.ns, moment.waited_ns, moment.allocated, moment.peak,
                   moment.managed, moment.operators, moment.net_freed});
  }
  return table(values, 12);
}

std::int64_t memory_hash() {
  return static_cast<std::int64_t>(open_vault().observer().hash());
}

using Numbers = c10::Dict<std::string, std::int64_t>;

Numbers memory_bytes() {
  ithaca::Memory& memory = counted();
  Numbers numbers;
  numbers.insert("allocated", memory.allocated());
  const ithaca::Budget& budget = memory.budget();
  numbers.insert("peak", budget.peak());
  numbers.insert("cap", budget.cap() == ithaca::Budget::kNoCap ? -1 : budget.cap());
  numbers.insert("largest", budget.largest());
  numbers.insert("exempt", memory.exempt_bytes());
  numbers.insert("refused", memory.refused_at());
  return numbers;
}

void memory_reset_peak() { counted().budget().reset_peak(); }

Numbers memory_counters() {
  Vault& vault = open_vault();
  const ithaca::Counters counters = vault.counters();
  Numbers numbers;
#define ITHACA_NUMBER(name) numbers.insert(#name, counters.name)
  ITHACA_NUMBER(saves);
  ITHACA_NUMBER(managed_saves);
  ITHACA_NUMBER(hits);
  ITHACA_NUMBER(nearby);
  ITHACA_NUMBER(misses);
  ITHACA_NUMBER(reclaims);
  ITHACA_NUMBER(released_parked);
  ITHACA_NUMBER(waited);
  ITHACA_NUMBER(evicted_planned);
  ITHACA_NUMBER(evicted_lru);
  ITHACA_NUMBER(evicted_state);
  ITHACA_NUMBER(states_early);
  ITHACA_NUMBER(lent);
  ITHACA_NUMBER(refusals);
  ITHACA_NUMBER(looks);
  ITHACA_NUMBER(noted);
  ITHACA_NUMBER(replays);
  ITHACA_NUMBER(skipped);
  ITHACA_NUMBER(made_again);
  ITHACA_NUMBER(loads_on_demand);
  ITHACA_NUMBER(loads_waited);
  ITHACA_NUMBER(prefetched);
  ITHACA_NUMBER(failed_writes);
  ITHACA_NUMBER(disk_full);
  ITHACA_NUMBER(in_order);
  ITHACA_NUMBER(wait_ns);
  ITHACA_NUMBER(out_bytes);
  ITHACA_NUMBER(in_bytes);
  ITHACA_NUMBER(state_out_bytes);
  ITHACA_NUMBER(state_in_bytes);
#undef ITHACA_NUMBER
  numbers.insert("alive", vault.alive());
  numbers.insert("managed_bytes", vault.managed_bytes());
  numbers.insert("evictable_bytes", vault.evictable_bytes());
  numbers.insert("leaving_bytes", vault.leaving_bytes());
  if (ithaca::DiskIo* disk = vault.disk()) {
    numbers.insert("disk_written", disk->bytes_written());
    numbers.insert("disk_read", disk->bytes_read());
    numbers.insert("disk_used", disk->bytes_used());
    numbers.insert("disk_direct", disk->direct() ? 1 : 0);
    numbers.insert("disk_write_ns", disk->busy_ns(ithaca::DiskIo::Kind::kWrite));
    numbers.insert("disk_read_ns", disk->busy_ns(ithaca::DiskIo::Kind::kRead));
  }
  if (auto* pinned = dynamic_cast<ithaca::PinnedTier*>(vault.tier())) {
    for (const bool out : {true, false}) {
      const auto moved = pinned->moved(out);
      numbers.insert(out ? "host_out_bytes" : "host_in_bytes", moved.bytes);
      numbers.insert(out ? "host_out_ns" : "host_in_ns", moved.ns);
    }
    numbers.insert("host_limit", pinned->slab().limit());
    numbers.insert("host_used", pinned->slab().used());
    numbers.insert("host_held", pinned->slab().held());
    numbers.insert("host_regions", pinned->slab().regions());
  }
  if (session().emulated) {
    numbers.insert("unordered", session().emulated->unordered());
    numbers.insert("device_copies", session().emulated->copies());
  }
  return numbers;
}

void memory_link_speed(std::int64_t write, std::int64_t read) {
  if (session().emulated) {
    session().emulated->speed[0] = write;
    session().emulated->speed[1] = read;
    return;
  }
  TORCH_CHECK(open_vault().disk() != nullptr, "this memory session has no disk");
  open_vault().disk()->set_speed(write, read);
}

// For tests: what goes wrong with the copies, and what is wrong with our code.
void memory_faults(std::int64_t fail_writes, std::int64_t fail_reads, std::int64_t failures,
                   std::int64_t longest, std::int64_t delay_us, std::int64_t newest_first) {
  TORCH_CHECK(open_vault().disk() != nullptr, "this memory session has no disk");
  ithaca::Faults& faults = open_vault().disk()->faults();
  faults.failures = failures;
  faults.fail_writes = fail_writes;
  faults.fail_reads = fail_reads;
  faults.longest = longest;
  faults.delay_us = delay_us;
  faults.newest_first = newest_first;
}
// The same for the copies of an emulated device.
void memory_device_faults(std::int64_t delay_us, std::int64_t uneven, std::int64_t failures,
                          std::int64_t no_memory) {
  TORCH_CHECK(session().emulated, "there is no emulated device");
  session().emulated->failures = failures;
  session().emulated->delay_us = delay_us;
  session().emulated->uneven = uneven;
  session().emulated->no_memory = no_memory;
}
// What the system has to leave to others, in bytes.
void memory_reserve(std::int64_t bytes) {
  CountedAllocator::installed().headroom().set_reserve(bytes);
}
// For tests: the system refuses one in so many requests.
void memory_shortage(std::int64_t one_in, std::int64_t seed) {
  CountedAllocator::installed().headroom().refuse_one_in(one_in, static_cast<std::uint64_t>(seed));
}
void memory_mutate(std::int64_t which) {
  Vault::mutation = ithaca::Tier::mutation = static_cast<ithaca::Mutation>(which);
}

}  // namespace

TORCH_LIBRARY(ithaca, m) {
  m.def("hash128(Tensor data, int seed=0) -> Tensor");
  m.impl("hash128", c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(hash128));

  m.def("chordless_cycles(Tensor starts, Tensor edges, int longest, int budget=0, int threads=1) "
        "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def("induced_paths(Tensor starts, Tensor edges, int longest, int budget=0, int threads=1) "
        "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def("chordless_profile(Tensor starts, Tensor edges, Tensor? types, int edge_types, int path, "
        "int cycle, int hops, int budget=0, int threads=1) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("segment_sum(Tensor table, Tensor values, Tensor first, Tensor other, Tensor row) "
        "-> Tensor");
  m.def("segment_sum_table(Tensor grad, Tensor values, Tensor first, Tensor other, Tensor row, "
        "int rows) -> Tensor");
  const auto any_device = c10::DispatchKey::CompositeExplicitAutograd;
  m.impl("chordless_cycles", any_device, TORCH_FN(ithaca::chordless_cycles));
  m.impl("induced_paths", any_device, TORCH_FN(ithaca::induced_paths));
  m.impl("chordless_profile", any_device, TORCH_FN(ithaca::chordless_profile));
  m.impl("segment_sum", any_device, TORCH_FN(ithaca::segment_sum));
  m.impl("segment_sum_table", any_device, TORCH_FN(ithaca::segment_sum_table));

  m.def("memory_install() -> ()", memory_install);
  m.def(
      "memory_open(Device device, int cap, int smallest, int host, str folder, int limit, "
      "int threads) -> ()",
      memory_open);
  m.def("memory_emulate(bool on) -> ()", memory_emulate);
  m.def("memory_emulated() -> bool", memory_emulated);
  m.def("memory_has(Device device) -> bool", ithaca::has_memory);
  m.def(
      "memory_device_faults(int delay_us=0, int uneven=0, int failures=0, int no_memory=0) -> ()",
      memory_device_faults);
  m.def("memory_close(bool restore) -> ()", memory_close);
  m.def("memory_observe(bool on) -> ()", memory_observe);
  m.def("memory_cap(int cap) -> ()", memory_cap);
  m.def("memory_adopt(Tensor tensor) -> bool", memory_adopt);
  m.def("memory_exempt(bool exempt) -> ()", memory_exempt);
  m.def("memory_protect(Tensor tensor) -> ()", memory_protect);
  m.def("memory_state(Tensor tensor) -> ()", memory_state);
  m.def("memory_created(Tensor[] tensors) -> ()", memory_created);
  m.def("memory_use(Tensor[] tensors) -> ()", memory_use);
  m.def("memory_done(Tensor[] tensors) -> ()", memory_done);
  m.def("memory_begin_optimizer(int which) -> bool", memory_begin_optimizer);
  m.def("memory_end_optimizer(int which) -> ()", memory_end_optimizer);
  m.def("memory_optimizer() -> ()", memory_optimizer);
  m.def("memory_replay(bool begins) -> ()", memory_replay);
  m.def("memory_key_of(Tensor tensor) -> int", memory_key_of);
  m.def("memory_normed(Tensor output, float epsilon) -> ()", memory_normed);
  m.def("memory_passive_mark(int bytes) -> ()", memory_passive_mark);
  m.def("memory_store_plan(int number, int[] rows, int? state_away) -> ()", memory_store_plan);
  m.def("memory_state_sizes() -> Tensor", memory_state_sizes);
  m.def("memory_use_plan(int number) -> ()", memory_use_plan);
  m.def("memory_detail() -> ()", memory_detail);
  m.def("memory_begin(bool detailed) -> ()", memory_begin);
  m.def("memory_runs() -> Tensor", memory_runs);
  m.def("memory_moments() -> Tensor", memory_moments);
  m.def("memory_hash() -> int", memory_hash);
  m.def("memory_bytes() -> Dict(str, int)", memory_bytes);
  m.def("memory_reset_peak() -> ()", memory_reset_peak);
  m.def("memory_counters() -> Dict(str, int)", memory_counters);
  m.def("memory_link_speed(int write, int read) -> ()", memory_link_speed);
  m.def(
      "memory_faults(int fail_writes=0, int fail_reads=0, int failures=0, int longest=0, "
      "int delay_us=0, int newest_first=0) -> ()",
      memory_faults);
  m.def("memory_mutate(int which) -> ()", memory_mutate);
  m.def("memory_reserve(int bytes) -> ()", memory_reserve);
  m.def("memory_shortage(int one_in, int seed=0) -> ()", memory_shortage);
}

// The module: its loading registers the operators, and it has the functions that autograd and the
// hooks of modules call. Declared by hand from CPython's stable ABI, so that no header files of
// Python are needed.
struct _object;
using PyObject = _object;

// Of libtorch_python: the Python object of a tensor.
PyObject* THPVariable_Wrap(const at::TensorBase& tensor);

extern "C" {

struct ModuleDef {
  struct {
    std::intptr_t references;
    void* type;
  } object;
  void* (*init)();
  std::intptr_t index;
  void* copy;
  const char* name;
  const char* doc;
  std::intptr_t state_size;
  void* methods;
  void* slots;
  void* traverse;
  void* clear;
  void* free;
};
struct MethodDef {
  const char* name;
  PyObject* (*function)(PyObject* self, PyObject* argument);
  int flags;
  const char* doc;
};

void* PyModule_Create2(ModuleDef* definition, int api_version);
PyObject* PyObject_GetAttrString(PyObject* object, const char* name);
PyObject* PyImport_ImportModule(const char* name);
unsigned long long PyLong_AsUnsignedLongLong(PyObject* object);
void Py_IncRef(PyObject* object);
void Py_DecRef(PyObject* object);
PyObject* Py_BuildValue(const char* format, ...);
void PyErr_SetString(PyObject* type, const char* message);
PyObject* PyErr_Occurred();
void PyErr_Clear();
int PyGILState_Check();
void* PyEval_SaveThread();
void PyEval_RestoreThread(void* state);

}  // extern "C"

namespace {

// Where in the Python object of a tensor its at::Tensor lies: found once, by the address that the
// object itself tells, so that the layout need not be known.
const at::Tensor& tensor_of(PyObject* object) {
  static std::atomic<std::size_t> place{0};
  auto** words = reinterpret_cast<void**>(object);
  if (const std::size_t known = place; known != 0) {
    return *reinterpret_cast<const at::Tensor*>(words + known);
  }
  PyObject* address = PyObject_GetAttrString(object, "_cdata");
  TORCH_CHECK(address != nullptr, "a saved tensor is no torch.Tensor");
  const auto wanted = reinterpret_cast<void*>(PyLong_AsUnsignedLongLong(address));
  Py_DecRef(address);
  for (std::size_t i = 2; i < 6; ++i) {
    if (words[i] == wanted) {
      place = i;
      return *reinterpret_cast<const at::Tensor*>(words + i);
    }
  }
  TORCH_CHECK(false, "this build of torch keeps its tensors in a way that is not known here");
}

// Null for an object that is no tensor: what another hook saved in a tensor's place.
const at::Tensor* tensor_in(PyObject* object) {
  PyObject* address = PyObject_GetAttrString(object, "_cdata");
  if (address == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  const auto wanted = reinterpret_cast<void*>(PyLong_AsUnsignedLongLong(address));
  Py_DecRef(address);
  const at::Tensor& tensor = tensor_of(object);
  return tensor.unsafeGetTensorImpl() == wanted ? &tensor : nullptr;
}

void raise(const char* module, const char* type, const char* message) {
  PyObject* found = PyImport_ImportModule(module);
  PyObject* error = found != nullptr ? PyObject_GetAttrString(found, type) : nullptr;
  if (error != nullptr) {
    PyErr_SetString(error, message);
    Py_DecRef(error);
  }
  if (found != nullptr) Py_DecRef(found);
}

template <typename Work>
PyObject* guarded(Work&& work) {
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    raise("torch", "OutOfMemoryError", error.what_without_backtrace());
  } catch (const c10::Error& error) {
    if (PyErr_Occurred() == nullptr) {
      raise("builtins", "RuntimeError", error.what_without_backtrace());
    }
  } catch (const std::exception& error) {
    raise("builtins", "RuntimeError", error.what());
  }
  return nullptr;
}

PyObject* pack(PyObject*, PyObject* tensor) {
  return guarded([&] {
    Vault* vault = session().vault.get();
    if (vault == nullptr) {
      Py_IncRef(tensor);
      return tensor;
    }
    return THPVariable_Wrap(vault->pack(tensor_of(tensor)));
  });
}

PyObject* hold(PyObject*, PyObject* tensor) {
  return guarded([&] {
    Vault* vault = session().vault.get();
    TORCH_CHECK(vault != nullptr, "no memory session is open");
    return THPVariable_Wrap(vault->hold(tensor_of(tensor)));
  });
}

PyObject* unpack(PyObject*, PyObject* tensor) {
  return guarded([&] { return THPVariable_Wrap(Vault::unpack(tensor_of(tensor))); });
}

PyObject* note(PyObject*, PyObject* tensor) {
  return guarded([&]() -> PyObject* {
    Vault* vault = session().vault.get();
    const at::Tensor hollow = vault != nullptr ? vault->note(tensor_of(tensor)) : at::Tensor();
    return hollow.defined() ? THPVariable_Wrap(hollow) : Py_BuildValue("");
  });
}

PyObject* used(PyObject*, PyObject* hollow) {
  return guarded([&] {
    Vault::used(tensor_of(hollow));
    if (session().vault) session().vault->read(tensor_of(hollow));
    return Py_BuildValue("");
  });
}

PyObject* none() { return Py_BuildValue(""); }

PyObject* enter(PyObject*, PyObject* module) {
  return guarded([&] {
    const auto number = static_cast<std::int64_t>(PyLong_AsUnsignedLongLong(module));
    if (session().vault) session().vault->enter(number);
    return none();
  });
}

PyObject* leave(PyObject*, PyObject*) {
  return guarded([&] {
    if (session().vault) session().vault->leave();
    return none();
  });
}

constexpr int kNoArguments = 4, kOneArgument = 8;

MethodDef methods[] = {
    {"pack", &pack, kOneArgument, "The alias to save in place of a tensor."},
    {"hold", &hold, kOneArgument, "The same for a tensor that we keep ourselves."},
    {"unpack", &unpack, kOneArgument, "The tensor behind an alias, with its bytes."},
    {"note", &note, kOneArgument, "What to save in place of a tensor that is computed again."},
    {"used", &used, kOneArgument, "Backward reads what was noted."},
    {"enter", &enter, kOneArgument, "A module of this number begins its forward."},
    {"leave", &leave, kNoArguments, "The module that began last ends its forward."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void* PyInit__C() {
  constexpr int kStableApi = 3;
  static ModuleDef definition{.object = {.references = 1},
                              .name = "_C",
                              .doc = "Registers torch.ops.ithaca.*.",
                              .state_size = -1,
                              .methods = methods};
  ithaca::Pause::begin = [] { return PyGILState_Check() != 0 ? PyEval_SaveThread() : nullptr; };
  ithaca::Pause::end = [](void* state) { PyEval_RestoreThread(state); };
  ithaca::Again::tensor_in = [](void* object) { return tensor_in(static_cast<PyObject*>(object)); };
  return PyModule_Create2(&definition, kStableApi);
}
