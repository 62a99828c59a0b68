#include "again.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/csrc/autograd/variable.h>

#include <initializer_list>
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

}  // namespace

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
  }
  if (!found) return nullptr;
  again->strides = made.strides().vec();
  return again;
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
  }
  TORCH_CHECK(false, "no such operator");
}

}  // namespace ithaca
