// What is told of tensors that were packed, for the files that the vault is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "vault.h"

namespace ithaca {

// Every alias that was packed and is alive, of all sessions: unpacking outlives a session.
struct Registry {
  std::mutex mutex;
  std::unordered_map<const c10::TensorImpl*, std::shared_ptr<const Packed>> packed;

  std::shared_ptr<const Packed> find(const c10::TensorImpl* tensor) {
    std::lock_guard lock(mutex);
    const auto found = packed.find(tensor);
    return found == packed.end() ? nullptr : found->second;
  }
  void add(const c10::TensorImpl* tensor, Packed entry) {
    auto shared = std::make_shared<const Packed>(std::move(entry));
    std::lock_guard lock(mutex);
    packed.insert_or_assign(tensor, std::move(shared));
  }
  void sweep() {
    std::vector<std::shared_ptr<const Packed>> dropped;  // freed without the lock
    std::lock_guard lock(mutex);
    for (auto entry = packed.begin(); entry != packed.end();) {
      if (entry->second->tensor.expired()) {
        dropped.push_back(std::move(entry->second));
        entry = packed.erase(entry);
      } else {
        ++entry;
      }
    }
  }
  void forget(const Stored& stored) {
    std::lock_guard lock(mutex);
    for (const auto& weak : stored.packed) packed.erase(weak._unsafe_get_target());
  }
};

Registry& registry();

// The same tensor, detached, with its counter of versions.
at::Tensor alias_of(const at::Tensor& tensor);
// Dtype, rank and size bucket.
std::int64_t look_of(const at::Tensor& tensor);
// "ReluBackward0"; nothing for a leaf.
std::string origin_of(const at::Tensor& tensor);
// Stock autograd's error.
[[noreturn]] void modified_in_place(const at::Tensor& alias, const Packed& packed);

}  // namespace ithaca
