// Kernels by name, with the types of their parameters.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace emulation {

// The letter of a parameter's type in a signature.
template <typename P>
constexpr char type_letter() {
    if constexpr (std::is_pointer_v<P>) return 'p';
    else if constexpr (std::is_same_v<P, float>) return 'f';
    else if constexpr (std::is_integral_v<P> && sizeof(P) == 4) return 'i';
    else {
        static_assert(std::is_integral_v<P> && sizeof(P) == 8, "parameters are pointers, int, int64_t or float");
        return 'l';
    }
}

struct Kernel {
    // The path of its source file.
    const char* source;
    const char* name;
    // The most threads of a block.
    unsigned threads;
    // A letter per parameter.
    const char* signature;
    void (*call)(const void* const* parameters);
    Kernel* next;
};

void add(Kernel* kernel);

template <auto Function>
struct Invoke;

template <typename... P, void (*Function)(P...)>
struct Invoke<Function> {
    static constexpr char SIGNATURE[] = {type_letter<P>()..., 0};

    template <size_t... I>
    static void call_with(const void* const* parameters, std::index_sequence<I...>) {
        Function(*static_cast<const P*>(parameters[I])...);
    }
    static void call(const void* const* parameters) { call_with(parameters, std::index_sequence_for<P...>()); }
};

struct Registration {
    Kernel kernel;
    Registration(const char* source, const char* name, unsigned threads, const char* signature,
                 void (*call)(const void* const*))
        : kernel{source, name, threads, signature, call, nullptr} {
        add(&kernel);
    }
};

}  // namespace emulation

#define KERNEL_BOUNDS(name, threads, blocks, parameters, ...)                                   \
    extern "C" void name parameters { __VA_ARGS__; }                                            \
    static emulation::Registration name##_registration(__FILE__, #name, threads,                \
                                                       emulation::Invoke<name>::SIGNATURE,      \
                                                       emulation::Invoke<name>::call);
