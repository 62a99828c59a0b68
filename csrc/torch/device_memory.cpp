#include "device_memory.h"

#include <c10/util/Exception.h>

#include <map>

namespace ithaca {
namespace {

std::map<c10::DeviceType, MakeMemory>& makers() {
  static auto* const once = new std::map<c10::DeviceType, MakeMemory>;
  return *once;
}

}  // namespace

RegisterMemory::RegisterMemory(c10::DeviceType type, MakeMemory make) {
  makers().emplace(type, make);
}

bool has_memory(c10::Device device) { return makers().count(device.type()) != 0; }

Memory& device_memory(c10::Device device) {
  const auto found = makers().find(device.type());
  TORCH_CHECK(found != makers().end(), "this build of ithaca cannot count the memory of ", device,
              ": it was built without the headers of that kind of device, or against a torch "
              "without it");
  return found->second(device);
}

}  // namespace ithaca
