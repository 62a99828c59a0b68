// The memory of devices other than the CPU, as far as this build knows how to count it.
#pragma once

#include <c10/core/Device.h>

#include "memory.h"

namespace ithaca {

// Makes the memory of a device, once for each; see csrc/cuda.
using MakeMemory = Memory& (*)(c10::Device device);

// Tells how the memory of a kind of device is counted; at the loading of the library.
struct RegisterMemory {
  RegisterMemory(c10::DeviceType type, MakeMemory make);
};

bool has_memory(c10::Device device);
// Throws c10::Error, with the reason, if this build cannot.
Memory& device_memory(c10::Device device);

}  // namespace ithaca
