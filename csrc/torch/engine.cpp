#include "engine.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/record_function.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

namespace ithaca {
namespace {

// What we ask of torch is no operator of the program: not recorded, not differentiated, and not
// seen by the dispatch modes of Python, whose lock may not be taken here.
struct Apart {
  at::RecordFunctionGuard unrecorded{/*is_enabled=*/false};
  at::AutoDispatchBelowADInplaceOrView below;
  c10::impl::ExcludeDispatchKeyGuard without_python{c10::python_ks};
};

at::Tensor bytes_at(void* memory, std::int64_t size, c10::Device device) {
  return at::for_blob(memory, {size})
      .options(at::TensorOptions().dtype(at::kByte).device(device))
      .target_device(device)
      .make_tensor();
}

}  // namespace

Accelerator::Accelerator(c10::Device device)
    : device_(device), guard_(*c10::impl::getDeviceGuardImpl(device.type())) {}

void Accelerator::copy(const c10::Stream& stream, void* to, const void* from, std::int64_t size,
                       bool out) {
  const Apart apart;
  const c10::StreamGuard guard(stream);
  const at::Tensor there = bytes_at(to, size, out ? c10::Device(c10::kCPU) : device_);
  const at::Tensor here =
      bytes_at(const_cast<void*>(from), size, out ? device_ : c10::Device(c10::kCPU));
  there.copy_(here, /*non_blocking=*/true);
}

std::shared_ptr<char> Accelerator::host_memory(std::int64_t size) {
  const Apart apart;
  try {
    const at::Tensor pinned =
        at::empty({size}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    auto* owner = new at::Tensor(pinned);
    return {static_cast<char*>(pinned.mutable_data_ptr()), [owner](char*) { delete owner; }};
  } catch (const c10::Error&) {
    return nullptr;  // the system has no more that can be pinned
  }
}

}  // namespace ithaca
