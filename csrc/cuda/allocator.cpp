// Stands in front of torch's caching allocator of CUDA, for good, from the first session on: what
// is asked of it on a device with a session goes through that device's budget, and everything else
// is passed on as it is.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/version.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../torch/device_memory.h"
#include "../torch/vault.h"
#include "memory.h"

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 11
#error "the memory of CUDA is counted from torch 2.11 on"
#endif
#define ITHACA_TORCH_2_12 (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 12)
#define ITHACA_TORCH_2_13 (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13)

namespace ithaca {
namespace {

namespace torchs = c10::cuda::CUDACachingAllocator;
using c10::CachingDeviceAllocator::DeviceStats;
using c10::DeviceIndex;
using c10::MempoolId_t;

class Front final : public TorchsAllocator {
 public:
  explicit Front(TorchsAllocator* behind) : behind_(*behind) {}

  static Front& installed() {
    static Front* const once = [] {
      auto* front = new Front(torchs::allocator.load());
      torchs::allocator.store(front);
      c10::SetAllocator(c10::kCUDA, front, /*priority=*/100);
      return front;
    }();
    return *once;
  }

  CudaMemory& memory_of(c10::Device device) {
    std::lock_guard lock(mutex_);
    std::atomic<CudaMemory*>& memory = memories_.at(static_cast<std::size_t>(device.index()));
    if (memory == nullptr) memory = new CudaMemory(behind_, device);
    return *memory;
  }

  c10::DataPtr allocate(std::size_t size) override {
    CudaMemory* memory = here();
    return memory != nullptr ? memory->allocate(size) : behind_.allocate(size);
  }
  void* raw_alloc(std::size_t size) override {
    CudaMemory* memory = here();
    return memory != nullptr ? memory->allocate_raw(size, std::nullopt) : behind_.raw_alloc(size);
  }
  void* raw_alloc_with_stream(std::size_t size, cudaStream_t stream) override {
    CudaMemory* memory = here();
    return memory != nullptr ? memory->allocate_raw(size, stream)
                             : behind_.raw_alloc_with_stream(size, stream);
  }

  // What follows is torch's own.

  bool is_simple_data_ptr(const c10::DataPtr& data) const override {
    return behind_.is_simple_data_ptr(data);
  }
  c10::DeleterFnPtr raw_deleter() const override { return behind_.raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t size) const override {
    behind_.copy_data(to, from, size);
  }
  bool initialized() override { return behind_.initialized(); }
  void emptyCache(MempoolId_t pool) override { behind_.emptyCache(pool); }
  void recordStream(const c10::DataPtr& data, c10::cuda::CUDAStream stream) override {
    behind_.recordStream(Vault::owner_of(data), stream);
  }
  DeviceStats getDeviceStats(DeviceIndex device) override {
    return behind_.getDeviceStats(device);
  }
  void resetAccumulatedStats(DeviceIndex device) override {
    behind_.resetAccumulatedStats(device);
  }
  void resetPeakStats(DeviceIndex device) override { behind_.resetPeakStats(device); }
  std::pair<std::size_t, std::size_t> getMemoryInfo(DeviceIndex device) override {
    return behind_.getMemoryInfo(device);
  }
  void raw_delete(void* data) override { behind_.raw_delete(data); }
  void init(int devices) override { behind_.init(devices); }
  double getMemoryFraction(DeviceIndex device) override {
    return behind_.getMemoryFraction(device);
  }
  void setMemoryFraction(double fraction, DeviceIndex device) override {
    behind_.setMemoryFraction(fraction, device);
  }
  std::vector<torchs::StreamSegmentSize> getExpandableSegmentSizes(DeviceIndex device) override {
    return behind_.getExpandableSegmentSizes(device);
  }
  void enable(bool value) override { behind_.enable(value); }
  bool isEnabled() const override { return behind_.isEnabled(); }
  void cacheInfo(DeviceIndex device, std::size_t* largest) override {
    behind_.cacheInfo(device, largest);
  }
  void* getBaseAllocation(void* data, std::size_t* size) override {
    return behind_.getBaseAllocation(data, size);
  }
  torchs::SnapshotInfo snapshot(MempoolId_t pool, bool traces) override {
    return behind_.snapshot(pool, traces);
  }
  void beginAllocateToPool(DeviceIndex device, MempoolId_t pool,
                           std::function<bool(cudaStream_t)> filter) override {
    behind_.beginAllocateToPool(device, pool, std::move(filter));
  }
  void endAllocateToPool(DeviceIndex device, MempoolId_t pool) override {
    behind_.endAllocateToPool(device, pool);
  }
  void releasePool(DeviceIndex device, MempoolId_t pool) override {
    behind_.releasePool(device, pool);
  }
  int getPoolUseCount(DeviceIndex device, MempoolId_t pool) override {
    return behind_.getPoolUseCount(device, pool);
  }
  void createOrIncrefPool(DeviceIndex device, MempoolId_t pool,
                          std::shared_ptr<TorchsAllocator> allocator) override {
    behind_.createOrIncrefPool(device, pool, std::move(allocator));
  }
  void setUseOnOOM(DeviceIndex device, MempoolId_t pool, bool use) override {
    behind_.setUseOnOOM(device, pool, use);
  }
  void setNoSplit(DeviceIndex device, MempoolId_t pool) override {
    behind_.setNoSplit(device, pool);
  }
  bool checkPoolLiveAllocations(DeviceIndex device, MempoolId_t pool,
                                const std::unordered_set<void*>& expected) override {
    return behind_.checkPoolLiveAllocations(device, pool, expected);
  }
  torchs::ShareableHandle shareIpcHandle(void* data) override {
    return behind_.shareIpcHandle(data);
  }
  std::shared_ptr<void> getIpcDevPtr(std::string handle) override {
    return behind_.getIpcDevPtr(std::move(handle));
  }
  bool isHistoryEnabled() override { return behind_.isHistoryEnabled(); }
  void recordHistory(bool enabled, torchs::CreateContextFn recorder, std::size_t most,
                     torchs::RecordContext when, bool clear,
                     const std::vector<std::string>& skipped) override {
    behind_.recordHistory(enabled, recorder, most, when, clear, skipped);
  }
  void recordAnnotation(const std::vector<std::pair<std::string, std::string>>& said) override {
    behind_.recordAnnotation(said);
  }
  void pushCompileContext(std::string& said) override { behind_.pushCompileContext(said); }
  void popCompileContext() override { behind_.popCompileContext(); }
  void setUserMetadata(const std::string& said) override { behind_.setUserMetadata(said); }
  std::string getUserMetadata() override { return behind_.getUserMetadata(); }
  void attachOutOfMemoryObserver(torchs::OutOfMemoryObserver observer) override {
    behind_.attachOutOfMemoryObserver(std::move(observer));
  }
  void attachAllocatorTraceTracker(torchs::AllocatorTraceTracker tracker) override {
    behind_.attachAllocatorTraceTracker(std::move(tracker));
  }
  void enablePeerAccess(DeviceIndex device, DeviceIndex other) override {
    behind_.enablePeerAccess(device, other);
  }
  cudaError_t memcpyAsync(void* to, int to_device, const void* from, int from_device,
                          std::size_t size, cudaStream_t stream, bool peers) override {
    return behind_.memcpyAsync(to, to_device, from, from_device, size, stream, peers);
  }
  std::shared_ptr<torchs::AllocatorState> getCheckpointState(DeviceIndex device,
                                                             MempoolId_t pool) override {
    return behind_.getCheckpointState(device, pool);
  }
  torchs::CheckpointDelta setCheckpointPoolState(
      DeviceIndex device, std::shared_ptr<torchs::AllocatorState> state) override {
    return behind_.setCheckpointPoolState(device, std::move(state));
  }
  std::string name() override { return behind_.name(); }
#if ITHACA_TORCH_2_12
  std::shared_ptr<c10::GatheredContext> getContextForPointer(const void* data) override {
    return behind_.getContextForPointer(data);
  }
  void attachOomRejectionObserver(torchs::OomRejectionObserver observer) override {
    behind_.attachOomRejectionObserver(std::move(observer));
  }
#endif
#if ITHACA_TORCH_2_13
  void markCaptureBegin(DeviceIndex device) override { behind_.markCaptureBegin(device); }
  void markCaptureEnd(DeviceIndex device) override { behind_.markCaptureEnd(device); }
  c10::DataPtr allocateWithAddress(std::size_t size, void* address) override {
    return behind_.allocateWithAddress(size, address);
  }
#endif

 private:
  static constexpr std::size_t kMostDevices = 128;

  // The memory of the current device, if a session was ever open there.
  CudaMemory* here() {
    return memories_[static_cast<std::size_t>(c10::cuda::current_device())].load();
  }

  TorchsAllocator& behind_;
  std::mutex mutex_;
  std::array<std::atomic<CudaMemory*>, kMostDevices> memories_{};
};

const RegisterMemory cuda(c10::kCUDA, [](c10::Device device) -> Memory& {
  return Front::installed().memory_of(device);
});

}  // namespace
}  // namespace ithaca
