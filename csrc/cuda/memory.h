// The memory of one CUDA device, kept under a budget: what torch's caching allocator hands out.
//
// What is counted is what torch counts: allocated bytes.
#pragma once

#include <c10/cuda/CUDACachingAllocator.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "../gate.h"
#include "../torch/memory.h"

namespace ithaca {

using TorchsAllocator = c10::cuda::CUDACachingAllocator::CUDAAllocator;

class CudaMemory final : public Memory {
 public:
  CudaMemory(TorchsAllocator& torchs, c10::Device device) : torchs_(torchs), device_(device) {}

  c10::Device device() const override { return device_; }
  c10::DataPtr allocate(std::size_t size) override;
  std::optional<c10::DataPtr> allocate_if_free(std::size_t size) override;
  // Whether it was allocated in this session for the stream that was current when it began: no
  // other bytes may be given back, and used again, in that stream's order.
  bool counts(const c10::DataPtr& data) const override;
  bool adopt(c10::StorageImpl& storage) override { return counts(storage.data_ptr()); }
  std::int64_t allocated() override;
  std::int64_t refused_at() const override { return refused_; }
  void begin() override;
  Budget& budget() override { return budget_; }

  // The same for addresses alone, which is how some libraries get their workspaces.
  void* allocate_raw(std::size_t size, std::optional<cudaStream_t> stream);

 private:
  template <typename Take>
  auto admit(std::size_t size, Take&& take);
  [[noreturn]] void refuse(std::size_t size);
  void note(const void* data, cudaStream_t stream);
  cudaStream_t current_stream() const;

  TorchsAllocator& torchs_;
  const c10::Device device_;
  Budget budget_;
  Gate gate_;
  cudaStream_t compute_ = nullptr;
  mutable std::mutex mutex_;
  std::unordered_set<const void*> ours_;  // guarded by mutex_
  std::atomic<std::int64_t> refused_{0};
};

}  // namespace ithaca
