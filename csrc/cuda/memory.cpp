#include "memory.h"

#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>

namespace ithaca {
namespace {

// torch rounds sizes up to this, and leaves up to a mebibyte at the end of a large block that it
// does not cut, unless its segments can grow.
constexpr std::int64_t kGrain = 512, kLarge = 1 << 20, kUncut = 1 << 20;

std::int64_t taken_for(std::size_t size) {
  const auto wanted = std::max<std::int64_t>(static_cast<std::int64_t>(size), 1);
  const std::int64_t rounded = (wanted + kGrain - 1) / kGrain * kGrain;
  // CUDA's own question of this name says no in extensions, which lack a macro of torch's build.
  const bool grows = c10::CachingAllocator::AcceleratorAllocatorConfig::use_expandable_segments();
  return rounded + (grows ? 0 : rounded > kLarge ? kUncut : kGrain);
}

}  // namespace

void CudaMemory::begin() {
  refused_ = 0;
  compute_ = current_stream();
  std::lock_guard lock(mutex_);
  ours_.clear();
}

cudaStream_t CudaMemory::current_stream() const {
  return c10::cuda::getCurrentCUDAStream(device_.index()).stream();
}

std::int64_t CudaMemory::allocated() {
  const std::int64_t now = torchs_.getDeviceStats(device_.index()).allocated_bytes[0].current;
  budget_.observe(now);
  return now;
}

void CudaMemory::refuse(std::size_t size) {
  const std::int64_t now = allocated(), cap = budget_.cap(), taken = taken_for(size);
  const std::int64_t needed = budget_for(now, taken, cap);
  std::int64_t seen = refused_.load();
  while (needed > seen && !refused_.compare_exchange_weak(seen, needed)) {
  }
  C10_THROW_ERROR(OutOfMemoryError,
                  c10::str("out of the memory budget: ", size, " bytes were asked for on ", device_,
                           ", ", now, " of ", cap,
                           " are in use and none of them can be moved away now",
                           now + taken > cap ? "" : ", but the device has no free piece so long",
                           "; a budget of at least ", needed,
                           " bytes is needed to get past this point"));
}

namespace {

// What `take` returns, or nothing where the device has no more.
template <typename Take>
auto unless_out_of_memory(Take&& take) -> std::optional<decltype(take())> {
  try {
    return take();
  } catch (const c10::OutOfMemoryError&) {
    return std::nullopt;  // the gate makes room, and the last answer is a refusal with numbers
  }
}

}  // namespace

template <typename Take>
auto CudaMemory::admit(std::size_t size, Take&& take) {
  auto got = gate_.admit(
      budget_, static_cast<std::int64_t>(size), taken_for(size), [this] { return allocated(); },
      [&] { return unless_out_of_memory(take); });
  if (!got) refuse(size);
  return *std::move(got);
}

c10::DataPtr CudaMemory::allocate(std::size_t size) {
  const c10::DeviceGuard guard(device_);
  if (budget_.cap() == Budget::kNoCap || size == 0) return torchs_.allocate(size);
  c10::DataPtr data = admit(size, [&] { return torchs_.allocate(size); });
  note(data.get(), current_stream());
  return data;
}

std::optional<c10::DataPtr> CudaMemory::allocate_if_free(std::size_t size) {
  const c10::DeviceGuard guard(device_);
  std::optional<c10::DataPtr> data = gate_.admit_if_free(
      budget_, taken_for(size), [this] { return allocated(); },
      [&] { return unless_out_of_memory([&] { return torchs_.allocate(size); }); });
  if (data) note(data->get(), current_stream());
  return data;
}

void* CudaMemory::allocate_raw(std::size_t size, std::optional<cudaStream_t> stream) {
  const c10::DeviceGuard guard(device_);
  const auto take = [&] {
    return stream ? torchs_.raw_alloc_with_stream(size, *stream) : torchs_.raw_alloc(size);
  };
  if (budget_.cap() == Budget::kNoCap || size == 0) return take();
  void* data = admit(size, take);
  note(data, stream ? *stream : current_stream());
  return data;
}

void CudaMemory::note(const void* data, cudaStream_t stream) {
  std::lock_guard lock(mutex_);
  if (stream == compute_) {
    ours_.insert(data);
  } else {
    ours_.erase(data);
  }
}

bool CudaMemory::counts(const c10::DataPtr& data) const {
  std::lock_guard lock(mutex_);
  return data.get() != nullptr && ours_.count(data.get()) != 0;
}

}  // namespace ithaca
