// The one file that knows torch and Python: registers the operators as torch.ops.ithaca.*.
//
// torch releases Python's lock before it calls an operator, and no operator touches Python.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstdint>

#include "hash.h"

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

}  // namespace

TORCH_LIBRARY(ithaca, m) {
  m.def("hash128(Tensor data, int seed=0) -> Tensor");
  m.impl("hash128", c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(hash128));
}

// `import ithaca._C` needs a module; an empty one, whose loading has registered the operators.
// Declared by hand from CPython's stable ABI, so that no header files of Python are needed.
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

void* PyModule_Create2(ModuleDef* definition, int api_version);

__attribute__((visibility("default"))) void* PyInit__C() {
  constexpr int kStableApi = 3;
  static ModuleDef definition{
      .object = {.references = 1}, .name = "_C", .doc = "Registers torch.ops.ithaca.*."};
  return PyModule_Create2(&definition, kStableApi);
}

}  // extern "C"
