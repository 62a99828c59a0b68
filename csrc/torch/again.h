// Saved tensors that one cheap operator makes again from what is saved anyway: the product of two
// tensors, GELU, SiLU, layer normalisation. Instead of their bytes autograd then keeps a hollow
// tensor, which owns the recipe.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ithaca {

struct Again {
  enum class Operator { kMul, kGelu, kSilu, kLayerNorm };

  // The recipe of a tensor, from the node of autograd that made it; null if there is none. The
  // inputs are what that node saved, as the vault packed it.
  static std::shared_ptr<Again> of(const at::Tensor& tensor);
  // The tensor that owns the storage of `tensor`, whole and as the operator made it; undefined
  // if that cannot be told.
  static at::Tensor origin(const at::Tensor& tensor);

  // The node that made `output` is a layer normalisation with this epsilon, which it does not tell.
  static void normed(const at::Tensor& output, double epsilon);
  // Forgets these.
  static void forget();

  // Bytes that it takes beside its result while it is made again: a norm's mean and scale.
  std::int64_t beside_bytes() const;
  // The same operator on the same values: the same bits. `inputs` with their bytes.
  at::Tensor make(const std::vector<at::Tensor>& inputs) const;

  Operator which = Operator::kMul;
  std::string approximate;  // GELU's
  std::vector<std::int64_t> normalized;  // sizes, of layer normalisation
  double epsilon = 0;  // its
  std::vector<at::Tensor> inputs;
  std::vector<std::int64_t> strides;  // of the result
  std::mutex mutex;
  at::Tensor value;  // once it has been made, in the vault's care

  // The tensor in a Python object; set by whoever knows Python.
  static const at::Tensor* (*tensor_in)(void* object);
};

}  // namespace ithaca
