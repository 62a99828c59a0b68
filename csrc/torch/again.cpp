#include "again.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/csrc/autograd/variable.h>

#include <initializer_list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "tier.h"

namespace ithaca {

const at::Tensor* (*Again::tensor_in)(void*) = nullptr;

namespace {

namespace nodes = torch::autograd::generated;
using torch::autograd::SavedVariable;

// What the hook gave for a saved variable; nothing is unpacked. False: it is no tensor of ours.
bool add(std::vector<at::Tensor>& inputs, const SavedVariable& saved) {
  if (!saved.has_hooks() || Again::tensor_in == nullptr) return false;
  const auto held = saved.retrieve_unpack_hook_data();
  if (!held) return false;
  const at::Tensor* tensor =
      Again::tensor_in(held->second.ptr(&held->second.pyinterpreter()));
  if (tensor == nullptr || !tensor->defined()) return false;
  inputs.push_back(*tensor);
  return true;
}

bool all(std::vector<at::Tensor>& inputs, std::initializer_list<const SavedVariable*> saved) {
  for (const SavedVariable* one : saved) {
    if (!add(inputs, *one)) return false;
  }
  return true;
}

// Layer normalisations of this step. A node may come to lie where another was: the number of its
// creation is compared.
struct Norm {
  std::uint64_t number;
  double epsilon;
};
struct Norms {
  std::mutex mutex;
  std::unordered_map<const torch::autograd::Node*, Norm> known;
};
Norms& norms() {
  static auto* const once = new Norms;
  return *once;
}

std::optional<double> epsilon_of(const torch::autograd::Node& node) {
  const std::lock_guard lock(norms().mutex);
  const auto found = norms().known.find(&node);
  if (found == norms().known.end() || found->second.number != node.sequence_nr()) return {};
  return found->second.epsilon;
}

// Inputs: values, mean and scale of each row, weight and bias as far as there are any.
bool norm(Again& again, const nodes::NativeLayerNormBackward0& node) {
  const std::optional<double> epsilon = epsilon_of(node);
  if (!epsilon || !all(again.inputs, {&node.input_, &node.result1_, &node.result2_})) return false;
  for (const SavedVariable* one : {&node.weight_, &node.bias_}) {
    // As the input has hooks, what has none is not there.
    if (!one->has_hooks()) {
      again.inputs.emplace_back();
    } else if (!add(again.inputs, *one)) {
      return false;
    }
  }
  again.epsilon = *epsilon;
  for (const c10::SymInt& size : node.normalized_shape) {
    again.normalized.push_back(size.guard_int(__FILE__, __LINE__));
  }
  return true;
}

// Whether they are the same to the last bit; NaN is.
bool same_bits(const at::Tensor& left, const at::Tensor& right) {
  const auto bits = [](const at::Tensor& tensor) {
    return tensor.contiguous().flatten().view(at::kByte);
  };
  return left.scalar_type() == right.scalar_type() && at::equal(bits(left), bits(right));
}

at::Tensor layer_norm(const Again& again, const std::vector<at::Tensor>& given) {
  auto [made, mean, scale] = at::native_layer_norm(given.at(0), again.normalized, given.at(3),
                                                   given.at(4), again.epsilon);
  // The node did not tell its epsilon: if it was another one, this would show it.
  TORCH_CHECK(same_bits(mean, given.at(1)) && same_bits(scale, given.at(2)),
              "a layer normalisation was not the same when it was made again; open the session "
              "with recompute=False");
  return made;
}

}  // namespace

void Again::normed(const at::Tensor& output, double epsilon) {
  const auto& node = output.grad_fn();
  if (!node || dynamic_cast<nodes::NativeLayerNormBackward0*>(node.get()) == nullptr) return;
  const std::lock_guard lock(norms().mutex);
  norms().known.insert_or_assign(node.get(), Norm{node->sequence_nr(), epsilon});
}

void Again::forget() {
  const std::lock_guard lock(norms().mutex);
  norms().known.clear();
}

at::Tensor Again::origin(const at::Tensor& tensor) {
  at::Tensor base = tensor;
  if (tensor.is_view()) base = at::Tensor(tensor._base());
  const bool whole = base.defined() && base.layout() == at::kStrided && base.has_storage() &&
                     base.storage_offset() == 0 && base.is_non_overlapping_and_dense() &&
                     base.nbytes() == base.storage().nbytes() && base._version() == 0;
  return whole ? base : at::Tensor();
}

std::shared_ptr<Again> Again::of(const at::Tensor& tensor) {
  const at::Tensor made = origin(tensor);
  if (!made.defined() || made.output_nr() != 0) return nullptr;
  const auto& node = made.grad_fn();
  if (!node) return nullptr;
  auto again = std::make_shared<Again>();
  bool found = false;
  if (auto* mul = dynamic_cast<nodes::MulBackward0*>(node.get())) {
    again->which = Operator::kMul;
    found = all(again->inputs, {&mul->self_, &mul->other_});
  } else if (auto* gelu = dynamic_cast<nodes::GeluBackward0*>(node.get())) {
    again->which = Operator::kGelu;
    again->approximate = gelu->approximate;
    found = all(again->inputs, {&gelu->self_});
  } else if (auto* silu = dynamic_cast<nodes::SiluBackward0*>(node.get())) {
    again->which = Operator::kSilu;
    found = all(again->inputs, {&silu->self_});
  } else if (auto* layer = dynamic_cast<nodes::NativeLayerNormBackward0*>(node.get())) {
    again->which = Operator::kLayerNorm;
    found = norm(*again, *layer);
  }
  if (!found) return nullptr;
  again->strides = made.strides().vec();
  return again;
}

std::int64_t Again::beside_bytes() const {
  if (which != Operator::kLayerNorm) return 0;
  const auto in_blocks = [](const at::Tensor& tensor) {
    return (static_cast<std::int64_t>(tensor.nbytes()) + 63) / 64 * 64;
  };
  return in_blocks(inputs.at(1)) + in_blocks(inputs.at(2));
}

at::Tensor Again::make(const std::vector<at::Tensor>& given) const {
  const at::NoGradGuard no_grad;
  const bool broken = Tier::mutation == Mutation::kWrongOperator;
  switch (broken && which != Operator::kSilu ? Operator::kSilu : which) {
    case Operator::kMul:
      return at::mul(given.at(0), given.at(1));
    case Operator::kGelu:
      return at::gelu(given.at(0), approximate);
    case Operator::kSilu:
      return at::silu(given.at(0));
    case Operator::kLayerNorm:
      return layer_norm(*this, given);
  }
  TORCH_CHECK(false, "no such operator");
}

}  // namespace ithaca
