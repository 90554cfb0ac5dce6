// CUDA C++ as CubeCL emits it, for a host compiler.
//
// A kernel's source is compiled after this header, and linked with cuda_emulator.cpp, which runs the
// threads of one block after another as fibers. Inline PTX has been rewritten to calls of functions
// in emulator::ptx by then, named after the instruction. What is not defined here does not compile,
// so that a kernel is never run with something left out.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <type_traits>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
// The order of accesses by several threads is what is examined: no promise to the host's compiler.
#define __restrict__

struct uint3 {
    unsigned int x, y, z;
};

namespace emulator {

// One pointer or value that a kernel takes; mirrored in Rust.
struct Argument {
    void* address;
    uint64_t size;
    // 1: a buffer of `size` bytes with a margin of `margin` bytes before and after it; 0: a value.
    uint32_t is_buffer;
    uint32_t margin;
};

// One launch; mirrored in Rust.
struct Launch {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    // 0: threads run in ascending order between barriers, 1: descending, 2: drawn from `seed`.
    uint32_t order;
    uint64_t seed;
    uint64_t argument_count;
    const Argument* arguments;
    char* message;
    uint64_t message_bytes;
};

struct Thread {
    uint3 index;
};

extern Thread* current;
extern uint3 block_index;
extern uint3 block_extent;
extern uint3 grid_extent;

// Ends the launch with a message that names the thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What the lanes of a warp brought to a meeting: `data[lane]` for the lanes in `lanes`.
struct Meeting {
    const unsigned char (*data)[64];
    uint32_t lanes;
};

// Waits until all lanes of the warp that still run have come to the same operation on the same
// line, and hands over what each of them brought (at most 64 bytes).
Meeting meet(const char* operation, int line, uint32_t mask, const void* data, size_t bytes);
uint32_t lane();
uint32_t live_lanes();
void synchronize_block(int line);
// A barrier of the warp that orders its accesses to memory, which shuffles do not.
void synchronize_warp(uint32_t mask, int line);

// Runs other threads until `ready(state)`.
void wait_until(const char* what, bool (*ready)(void*), void* state);
// Orders all that the block has done before all that it does from now on.
void order_block();

char* dynamic_shared(size_t alignment);
uint32_t shared_address(const void* pointer);
// The host address of `bytes` bytes of shared memory, which must be aligned to `alignment`.
char* shared_pointer(const char* operation, uint32_t address, size_t bytes, size_t alignment);

// Reports an access to the checks of bounds and of order.
void accessed(const void* address, size_t bytes, bool writes);

void copy_async(uint32_t to, const void* from, uint32_t bytes, uint32_t source_bytes);
void copy_async_commit();
void copy_async_wait(uint32_t groups_left);
void copy_async_wait_all();
void copy_async_arrive(void* barrier, bool increment);

template <class P>
P argument(const Argument& argument) {
    if constexpr (std::is_pointer_v<P>) {
        return static_cast<P>(argument.address);
    } else {
        if (argument.is_buffer) fail("a value stands where the launch passes a buffer");
        if (argument.size < sizeof(P))
            fail("the launch passes %llu bytes of metadata, the kernel takes %zu",
                 (unsigned long long)argument.size, sizeof(P));
        return *static_cast<const P*>(argument.address);
    }
}

template <auto Kernel>
struct Entry;

template <class... P, void (*Kernel)(P...)>
struct Entry<Kernel> {
    template <size_t... I>
    static void call(const Argument* arguments, std::index_sequence<I...>) {
        Kernel(argument<P>(arguments[I])...);
    }

    static void thread(const Argument* arguments) {
        call(arguments, std::index_sequence_for<P...>{});
    }

    // Bytes of each buffer that are watched together: a vector's parts may be written one by one.
    template <class T>
    static constexpr size_t granule() {
        if constexpr (std::is_pointer_v<T>) return sizeof(std::remove_pointer_t<T>) % 2 ? 1 : 2;
        return 1;
    }

    static constexpr size_t parameters = sizeof...(P);
    static constexpr size_t granules[] = {granule<P>()..., 1};
};

// 0 when the launch has run to its end; else the message says why not.
int launch(const Launch* launch, size_t parameters, const size_t* granules,
           void (*kernel)(const Argument*));

template <auto Kernel>
int launch_kernel(const Launch* launched) {
    using Called = Entry<Kernel>;
    return launch(launched, Called::parameters, Called::granules, Called::thread);
}

}  // namespace emulator

#define threadIdx (::emulator::current->index)
#define blockIdx (::emulator::block_index)
#define blockDim (::emulator::block_extent)
#define gridDim (::emulator::grid_extent)
static constexpr int warpSize = 32;

// ---- 16-bit floats: arithmetic in float or double, rounded once, as the device's.

namespace emulator {

template <int MantissaBits, int MinExponent>
struct Binary16 {
    unsigned short bits;

    Binary16() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    Binary16(T value) : bits(encode(static_cast<double>(value))) {}

    operator float() const { return decode(bits); }

    static Binary16 raw(unsigned short bits) {
        Binary16 value;
        value.bits = bits;
        return value;
    }

    static unsigned short encode(double value) {
        unsigned short sign = signbit(value) ? 0x8000 : 0;
        if (isnan(value)) return 0x7fff;
        double magnitude = fabs(value);
        constexpr int infinity = 0x7fff >> MantissaBits << MantissaBits;
        if (isinf(magnitude)) return sign | infinity;
        if (magnitude == 0) return sign;
        int exponent = ilogb(magnitude);
        if (exponent < MinExponent) exponent = MinExponent;
        if (exponent > -MinExponent + 1) return sign | infinity;
        double units = nearbyint(ldexp(magnitude, MantissaBits - exponent));
        // The leading one of a normal number adds one to the exponent, as does a carry.
        int encoded = ((exponent - MinExponent) << MantissaBits) + static_cast<int>(units);
        return sign | static_cast<unsigned short>(encoded < infinity ? encoded : infinity);
    }

    static float decode(unsigned short bits) {
        uint32_t magnitude_bits = static_cast<uint32_t>(bits & 0x7fff) << (23 - MantissaBits);
        float magnitude;
        memcpy(&magnitude, &magnitude_bits, 4);
        if ((bits & 0x7fff) >> MantissaBits == 0x7fff >> MantissaBits) {
            magnitude = bits & ((1 << MantissaBits) - 1) ? NAN : INFINITY;
        } else {
            // From the exponent's offset here to that of float; exact for subnormal numbers too.
            magnitude *= __builtin_ldexpf(1.0f, 126 + MinExponent);
        }
        return bits & 0x8000 ? -magnitude : magnitude;
    }

    friend Binary16 operator+(Binary16 a, Binary16 b) { return float(a) + float(b); }
    friend Binary16 operator-(Binary16 a, Binary16 b) { return float(a) - float(b); }
    friend Binary16 operator*(Binary16 a, Binary16 b) { return float(a) * float(b); }
    friend Binary16 operator/(Binary16 a, Binary16 b) { return float(a) / float(b); }
    friend Binary16 operator-(Binary16 a) { return raw(a.bits ^ 0x8000); }
    friend bool operator==(Binary16 a, Binary16 b) { return float(a) == float(b); }
    friend bool operator!=(Binary16 a, Binary16 b) { return float(a) != float(b); }
    friend bool operator<(Binary16 a, Binary16 b) { return float(a) < float(b); }
    friend bool operator<=(Binary16 a, Binary16 b) { return float(a) <= float(b); }
    friend bool operator>(Binary16 a, Binary16 b) { return float(a) > float(b); }
    friend bool operator>=(Binary16 a, Binary16 b) { return float(a) >= float(b); }
};

template <class Half>
struct alignas(4) Pair {
    Half x, y;

    Pair() = default;
    Pair(Half x, Half y) : x(x), y(y) {}

    friend Pair operator+(Pair a, Pair b) { return {a.x + b.x, a.y + b.y}; }
    friend Pair operator-(Pair a, Pair b) { return {a.x - b.x, a.y - b.y}; }
    friend Pair operator*(Pair a, Pair b) { return {a.x * b.x, a.y * b.y}; }
    friend Pair operator/(Pair a, Pair b) { return {a.x / b.x, a.y / b.y}; }
    friend Pair operator-(Pair a) { return {-a.x, -a.y}; }
};

}  // namespace emulator

using __half = emulator::Binary16<10, -14>;
using __nv_bfloat16 = emulator::Binary16<7, -126>;
using __half2 = emulator::Pair<__half>;
using __nv_bfloat162 = emulator::Pair<__nv_bfloat16>;

#define EMULATOR_HALF_UNARY(name, name2, expression)                            \
    template <int M, int E>                                                     \
    emulator::Binary16<M, E> name(emulator::Binary16<M, E> half) {              \
        float value = half;                                                     \
        return expression;                                                      \
    }                                                                           \
    template <class Half>                                                       \
    emulator::Pair<Half> name2(emulator::Pair<Half> pair) {                     \
        return {name(pair.x), name(pair.y)};                                    \
    }

EMULATOR_HALF_UNARY(hexp, h2exp, expf(value))
EMULATOR_HALF_UNARY(hexp2, h2exp2, exp2f(value))
EMULATOR_HALF_UNARY(hlog, h2log, logf(value))
EMULATOR_HALF_UNARY(hlog2, h2log2, log2f(value))
EMULATOR_HALF_UNARY(hsin, h2sin, sinf(value))
EMULATOR_HALF_UNARY(hcos, h2cos, cosf(value))
EMULATOR_HALF_UNARY(htanh, h2tanh, tanhf(value))
EMULATOR_HALF_UNARY(hsqrt, h2sqrt, sqrtf(value))
EMULATOR_HALF_UNARY(hrsqrt, h2rsqrt, 1.0f / sqrtf(value))
EMULATOR_HALF_UNARY(hrcp, h2rcp, 1.0f / value)
EMULATOR_HALF_UNARY(hceil, h2ceil, ceilf(value))
EMULATOR_HALF_UNARY(hfloor, h2floor, floorf(value))
EMULATOR_HALF_UNARY(htrunc, h2trunc, truncf(value))
EMULATOR_HALF_UNARY(hrint, h2rint, rintf(value))
EMULATOR_HALF_UNARY(__habs, __habs2, fabsf(value))
#undef EMULATOR_HALF_UNARY

#define EMULATOR_HALF_BINARY(name, name2, expression)                                         \
    template <int M, int E>                                                                   \
    emulator::Binary16<M, E> name(emulator::Binary16<M, E> a, emulator::Binary16<M, E> b) {   \
        float lhs = a, rhs = b;                                                               \
        return expression;                                                                    \
    }                                                                                         \
    template <class Half>                                                                     \
    emulator::Pair<Half> name2(emulator::Pair<Half> a, emulator::Pair<Half> b) {              \
        return {name(a.x, b.x), name(a.y, b.y)};                                              \
    }

EMULATOR_HALF_BINARY(__hmin, __hmin2, fminf(lhs, rhs))
EMULATOR_HALF_BINARY(__hmax, __hmax2, fmaxf(lhs, rhs))
EMULATOR_HALF_BINARY(__hmin_nan, __hmin2_nan, isnan(lhs) || isnan(rhs) ? NAN : fminf(lhs, rhs))
EMULATOR_HALF_BINARY(__hmax_nan, __hmax2_nan, isnan(lhs) || isnan(rhs) ? NAN : fmaxf(lhs, rhs))
#undef EMULATOR_HALF_BINARY

template <int M, int E>
emulator::Binary16<M, E> __hfma(emulator::Binary16<M, E> a, emulator::Binary16<M, E> b,
                                emulator::Binary16<M, E> c) {
    return double(float(a)) * double(float(b)) + double(float(c));
}

template <class Half>
emulator::Pair<Half> __hfma2(emulator::Pair<Half> a, emulator::Pair<Half> b,
                             emulator::Pair<Half> c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

template <int M, int E>
bool __hisnan(emulator::Binary16<M, E> value) {
    return isnan(float(value));
}

template <int M, int E>
int __hisinf(emulator::Binary16<M, E> value) {
    return isinf(float(value));
}

// ---- Functions of CUDA that C++ has not.

#define EMULATOR_EXTREMES(T)                                  \
    inline T min(T a, T b) { return b < a ? b : a; }          \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_EXTREMES(int)
EMULATOR_EXTREMES(unsigned int)
EMULATOR_EXTREMES(long)
EMULATOR_EXTREMES(unsigned long)
EMULATOR_EXTREMES(long long)
EMULATOR_EXTREMES(unsigned long long)
#undef EMULATOR_EXTREMES
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrt(float value) { return 1.0f / sqrtf(value); }
inline double rsqrt(double value) { return 1.0 / sqrt(value); }
inline float rhypotf(float a, float b) { return 1.0f / hypotf(a, b); }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value ? __builtin_clz(value) : 32; }
inline int __clzll(long long value) { return value ? __builtin_clzll(value) : 64; }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline unsigned __brev(unsigned value) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; bit++) reversed |= (value >> bit & 1u) << (31 - bit);
    return reversed;
}
inline unsigned long long __brevll(unsigned long long value) {
    return (unsigned long long)__brev((unsigned)value) << 32 | __brev((unsigned)(value >> 32));
}
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((unsigned long long)a * b >> 32);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

// ---- The block and the warp.

inline void __threadfence() {}
#define __syncthreads() ::emulator::synchronize_block(__LINE__)
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    emulator::synchronize_warp(mask, line);
}
inline unsigned __activemask() { return emulator::live_lanes(); }

namespace emulator {

template <class T>
T from_lane(const char* operation, uint32_t mask, T value, int source, int width, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2, "a shuffle of another size");
    if (width != 32) fail("%s with a width of %d, not the whole warp", operation, width);
    Meeting met = meet(operation, line, mask, &value, sizeof(T));
    T result;
    if (met.lanes >> source & 1) {
        memcpy(&result, met.data[source], sizeof(T));
    } else {
        // The device leaves this undefined.
        memset(&result, 0xff, sizeof(T));
    }
    return result;
}

}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE()) {
    return emulator::from_lane("__shfl_sync", mask, value, lane & 31, width, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    int source = emulator::lane() ^ bits;
    if (source > 31) source = emulator::lane();
    return emulator::from_lane("__shfl_xor_sync", mask, value, source, width, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 int line = __builtin_LINE()) {
    unsigned own = emulator::lane();
    int source = delta > own ? own : own - delta;
    return emulator::from_lane("__shfl_up_sync", mask, value, source, width, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   int line = __builtin_LINE()) {
    unsigned own = emulator::lane();
    int source = delta > 31 - own ? own : own + delta;
    return emulator::from_lane("__shfl_down_sync", mask, value, source, width, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    unsigned char vote = predicate != 0;
    emulator::Meeting met = emulator::meet("a vote", line, mask, &vote, 1);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (met.lanes >> lane & 1) votes |= (unsigned)met.data[lane][0] << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, !predicate, line) == 0;
}

inline uint32_t __cvta_generic_to_shared(const void* pointer) {
    return emulator::shared_address(pointer);
}

// Threads change over only where they wait: plain accesses are atomic here. Their order is nobody's
// mistake, so that it is not checked.
#define EMULATOR_UNCHECKED __attribute__((no_sanitize("thread")))
#define EMULATOR_ATOMIC(name, expression)                     \
    template <class T>                                        \
    EMULATOR_UNCHECKED T name(T* address, std::common_type_t<T> value) { \
        T old = *address;                                     \
        *address = expression;                                \
        return old;                                           \
    }
EMULATOR_ATOMIC(atomicExch, value)
EMULATOR_ATOMIC(atomicAdd, old + value)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
EMULATOR_ATOMIC(atomicAnd, old & value)
EMULATOR_ATOMIC(atomicOr, old | value)
EMULATOR_ATOMIC(atomicXor, old ^ value)
#undef EMULATOR_ATOMIC
template <class T>
EMULATOR_UNCHECKED T atomicCAS(T* address, std::common_type_t<T> compare, std::common_type_t<T> value) {
    T old = *address;
    if (old == compare) *address = value;
    return old;
}

// ---- Barriers in shared memory.

namespace cuda {

enum thread_scope { thread_scope_thread, thread_scope_block };

template <thread_scope Scope>
struct barrier {
    // How many arrivals complete a phase, how many the running one still lacks, and its number.
    uint64_t expected : 20, pending : 20, phase : 24;

    struct arrival_token {
        uint64_t phase;
    };

    friend EMULATOR_UNCHECKED void init(barrier* barrier, uint32_t arrivals) {
        *reinterpret_cast<uint64_t*>(barrier) = 0;
        barrier->expected = arrivals;
        barrier->pending = arrivals;
    }

    EMULATOR_UNCHECKED arrival_token arrive() {
        require_init();
        arrival_token token{phase};
        if (pending == 0) emulator::fail("more arrivals at a barrier than it expects");
        if (--pending == 0) {
            pending = expected;
            phase++;
            emulator::order_block();
        }
        return token;
    }

    EMULATOR_UNCHECKED void wait(arrival_token&& token) { wait_for(token.phase); }
    void arrive_and_wait() { wait(arrive()); }
    EMULATOR_UNCHECKED void wait_parity(bool parity) {
        require_init();
        if ((phase & 1) == parity) wait_for(phase);
    }

   private:
    EMULATOR_UNCHECKED void require_init() {
        if (~*reinterpret_cast<uint64_t*>(this) == 0) emulator::fail("a barrier without init");
    }

    struct Waiting {
        barrier* self;
        uint64_t phase;
    };

    EMULATOR_UNCHECKED static bool completed_since(void* state) {
        auto waiting = static_cast<Waiting*>(state);
        return waiting->self->phase != waiting->phase;
    }

    EMULATOR_UNCHECKED void wait_for(uint64_t completed) {
        Waiting waiting{this, completed};
        emulator::wait_until(
            "a barrier in shared memory", completed_since, &waiting);
    }
};

namespace device {
inline void* barrier_native_handle(barrier<thread_scope_block>& barrier) { return &barrier; }
}  // namespace device

}  // namespace cuda

// ---- Inline PTX, by instruction. The first argument is the line.

namespace nvcuda::wmma {

// Ten bits of mantissa, ties away from zero.
inline float __float_to_tf32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&value, &bits, 4);
    return value;
}

}  // namespace nvcuda::wmma

namespace emulator::ptx {

template <class To, class From>
To reinterpret(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof(To));
    return result;
}

template <class Half>
float half_of(uint32_t pair, int index) {
    return Half::decode(static_cast<unsigned short>(index ? pair >> 16 : pair));
}

template <class Half>
uint32_t pair_of(float low, float high) {
    return Half(low).bits | static_cast<uint32_t>(Half(high).bits) << 16;
}

// D = A B + C by one warp. `Words`: registers of A and of B, `a(words, row, k)`: an element.
template <int AWords, int BWords, class Element>
void mma(const char* name, int line, int depth, float* d, const uint32_t* a, const uint32_t* b,
         const float* c, Element element) {
    uint32_t brought[AWords + BWords];
    memcpy(brought, a, sizeof(uint32_t) * AWords);
    memcpy(brought + AWords, b, sizeof(uint32_t) * BWords);
    Meeting met = meet(name, line, 0xffffffffu, brought, sizeof(brought));
    if (met.lanes != 0xffffffffu) fail("%s on a part of the warp", name);
    int group = lane() / 4, pair = lane() % 4;
    for (int i = 0; i < 4; i++) {
        int row = group + i / 2 * 8, column = pair * 2 + i % 2;
        double sum = c[i];
        for (int k = 0; k < depth; k++)
            sum += element(met, 0, row, k) * element(met, AWords * 4, column, k);
        d[i] = static_cast<float>(sum);
    }
}

// Of 16-bit elements: registers hold pairs along k; A's alternate between rows 0..8 and 8..16 and
// then step to k + 8, B's step to k + 8.
template <class Half>
double half_element(const Meeting& met, int offset, int row, int k) {
    bool of_a = offset == 0;
    int word = of_a ? row / 8 + k / 8 * 2 : k / 8;
    uint32_t pair;
    memcpy(&pair, met.data[row % 8 * 4 + k % 8 / 2] + offset + word * 4, 4);
    return half_of<Half>(pair, k % 2);
}

// Of tf32 elements, one in a register; the device ignores the 13 lowest bits.
inline double tf32_element(const Meeting& met, int offset, int row, int k) {
    bool of_a = offset == 0;
    int word = of_a ? row / 8 + k / 4 * 2 : k / 4;
    uint32_t bits;
    memcpy(&bits, met.data[row % 8 * 4 + k % 4] + offset + word * 4, 4);
    return reinterpret<float>(bits & ~0x1fffu);
}

template <class T>
uint32_t word_of(T value) {
    return reinterpret<uint32_t>(value);
}

#define EMULATOR_MMA_K16(name, Half)                                                              \
    template <class A, class B>                                                                   \
    void name(int line, float& d0, float& d1, float& d2, float& d3, A a0, A a1, A a2, A a3, B b0, \
              B b1, float c0, float c1, float c2, float c3) {                                     \
        uint32_t a[4] = {word_of(a0), word_of(a1), word_of(a2), word_of(a3)};                     \
        uint32_t b[2] = {word_of(b0), word_of(b1)};                                               \
        float c[4] = {c0, c1, c2, c3}, d[4];                                                      \
        mma<4, 2>(#name, line, 16, d, a, b, c, half_element<Half>);                               \
        d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                               \
    }
EMULATOR_MMA_K16(mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32, __half)
EMULATOR_MMA_K16(mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32, __nv_bfloat16)
#undef EMULATOR_MMA_K16

template <class A, class B>
void mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32(int line, float& d0, float& d1, float& d2,
                                                        float& d3, A a0, A a1, A a2, A a3, B b0,
                                                        B b1, float c0, float c1, float c2,
                                                        float c3) {
    uint32_t a[4] = {word_of(a0), word_of(a1), word_of(a2), word_of(a3)};
    uint32_t b[2] = {word_of(b0), word_of(b1)};
    float c[4] = {c0, c1, c2, c3}, d[4];
    mma<4, 2>("mma.m16n8k8.tf32", line, 8, d, a, b, c, tf32_element);
    d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
}

// Up to four matrices of 8 rows of 16 bytes. Lane i brings the address of row i % 8 of matrix i / 8.
template <int Matrices, bool Transposed>
void ldmatrix(int line, uint32_t* registers, uint32_t address) {
    const char* name = Transposed ? "ldmatrix.trans" : "ldmatrix";
    Meeting met = meet(name, line, 0xffffffffu, &address, 4);
    if (met.lanes != 0xffffffffu) fail("%s on a part of the warp", name);
    for (int matrix = 0; matrix < Matrices; matrix++) {
        uint32_t word = 0;
        for (int half = 0; half < 2; half++) {
            int row = lane() / 4, column = lane() % 4 * 2 + half;
            if (Transposed) std::swap(row, column);
            uint32_t row_address;
            memcpy(&row_address, met.data[matrix * 8 + row], 4);
            const char* elements = shared_pointer(name, row_address, 16, 16);
            unsigned short bits;
            memcpy(&bits, elements + column * 2, 2);
            accessed(elements + column * 2, 2, false);
            word |= static_cast<uint32_t>(bits) << 16 * half;
        }
        registers[matrix] = word;
    }
}

template <int Matrices, bool Transposed>
void stmatrix(int line, uint32_t address, const uint32_t* registers) {
    const char* name = Transposed ? "stmatrix.trans" : "stmatrix";
    Meeting met = meet(name, line, 0xffffffffu, &address, 4);
    if (met.lanes != 0xffffffffu) fail("%s on a part of the warp", name);
    for (int matrix = 0; matrix < Matrices; matrix++) {
        for (int half = 0; half < 2; half++) {
            int row = lane() / 4, column = lane() % 4 * 2 + half;
            if (Transposed) std::swap(row, column);
            uint32_t row_address;
            memcpy(&row_address, met.data[matrix * 8 + row], 4);
            char* elements = shared_pointer(name, row_address, 16, 16);
            auto bits = static_cast<unsigned short>(registers[matrix] >> 16 * half);
            memcpy(elements + column * 2, &bits, 2);
            accessed(elements + column * 2, 2, true);
        }
    }
}

#define EMULATOR_LDMATRIX(suffix, transposed)                                                     \
    inline void ldmatrix_sync_aligned_m8n8_x1##suffix##_shared_cta_b16(int line, uint32_t& r0,    \
                                                                       uint32_t address) {        \
        ldmatrix<1, transposed>(line, &r0, address);                                              \
    }                                                                                             \
    inline void ldmatrix_sync_aligned_m8n8_x2##suffix##_shared_cta_b16(                           \
        int line, uint32_t& r0, uint32_t& r1, uint32_t address) {                                 \
        uint32_t r[2];                                                                            \
        ldmatrix<2, transposed>(line, r, address);                                                \
        r0 = r[0], r1 = r[1];                                                                     \
    }                                                                                             \
    inline void ldmatrix_sync_aligned_m8n8_x4##suffix##_shared_cta_b16(                           \
        int line, uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3, uint32_t address) {     \
        uint32_t r[4];                                                                            \
        ldmatrix<4, transposed>(line, r, address);                                                \
        r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];                                               \
    }                                                                                             \
    inline void stmatrix_sync_aligned_m8n8_x1##suffix##_shared_cta_b16(                           \
        int line, uint32_t address, uint32_t r0) {                                                \
        stmatrix<1, transposed>(line, address, &r0);                                              \
    }                                                                                             \
    inline void stmatrix_sync_aligned_m8n8_x2##suffix##_shared_cta_b16(                           \
        int line, uint32_t address, uint32_t r0, uint32_t r1) {                                   \
        uint32_t r[2] = {r0, r1};                                                                 \
        stmatrix<2, transposed>(line, address, r);                                                \
    }                                                                                             \
    inline void stmatrix_sync_aligned_m8n8_x4##suffix##_shared_cta_b16(                           \
        int line, uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {         \
        uint32_t r[4] = {r0, r1, r2, r3};                                                         \
        stmatrix<4, transposed>(line, address, r);                                                \
    }
EMULATOR_LDMATRIX(, false)
EMULATOR_LDMATRIX(_trans, true)
#undef EMULATOR_LDMATRIX

inline void cp_async_ca_shared_cta_global(int, uint32_t to, const void* from, uint32_t bytes,
                                          uint32_t source_bytes) {
    if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async.ca of %u bytes", bytes);
    copy_async(to, from, bytes, source_bytes);
}
inline void cp_async_ca_shared_cta_global(int line, uint32_t to, const void* from,
                                          uint32_t bytes) {
    cp_async_ca_shared_cta_global(line, to, from, bytes, bytes);
}
inline void cp_async_cg_shared_cta_global(int, uint32_t to, const void* from, uint32_t bytes,
                                          uint32_t source_bytes) {
    if (bytes != 16) fail("cp.async.cg of %u bytes, not 16", bytes);
    copy_async(to, from, bytes, source_bytes);
}
inline void cp_async_cg_shared_cta_global(int line, uint32_t to, const void* from,
                                          uint32_t bytes) {
    cp_async_cg_shared_cta_global(line, to, from, bytes, bytes);
}
#define cp_async_ca_shared_global cp_async_ca_shared_cta_global
#define cp_async_cg_shared_global cp_async_cg_shared_cta_global
inline void cp_async_commit_group(int) { copy_async_commit(); }
inline void cp_async_wait_group(int, uint32_t left) { copy_async_wait(left); }
inline void cp_async_wait_all(int) { copy_async_wait_all(); }
inline void cp_async_mbarrier_arrive_shared_cta_b64(int, uint32_t barrier) {
    copy_async_arrive(shared_pointer("cp.async.mbarrier.arrive", barrier, 8, 8), true);
}
inline void cp_async_mbarrier_arrive_noinc_shared_cta_b64(int, uint32_t barrier) {
    copy_async_arrive(shared_pointer("cp.async.mbarrier.arrive", barrier, 8, 8), false);
}

// The approximate functions are exact here to what float holds: their own errors are not a matter
// of a kernel's logic. `.ftz` reads and gives zero for subnormal numbers.
inline float flushed(float value) { return fpclassify(value) == FP_SUBNORMAL ? 0.0f * value : value; }
#define EMULATOR_UNARY(name, expression)                                \
    inline void name##_f32(int, float& d, float value) { d = expression; } \
    inline void name##_ftz_f32(int, float& d, float flush) {            \
        float value = flushed(flush);                                   \
        d = flushed(expression);                                        \
    }
EMULATOR_UNARY(ex2_approx, exp2f(value))
EMULATOR_UNARY(lg2_approx, log2f(value))
EMULATOR_UNARY(rcp_approx, 1.0f / value)
EMULATOR_UNARY(rsqrt_approx, 1.0f / sqrtf(value))
EMULATOR_UNARY(sqrt_approx, sqrtf(value))
#undef EMULATOR_UNARY
inline void tanh_approx_f32(int, float& d, float value) { d = tanhf(value); }
inline void max_NaN_f32(int, float& d, float a, float b) {
    d = isnan(a) || isnan(b) ? NAN : fmaxf(a, b);
}
inline void min_NaN_f32(int, float& d, float a, float b) {
    d = isnan(a) || isnan(b) ? NAN : fminf(a, b);
}
inline void fma_rn_f32(int, float& d, float a, float b, float c) { d = fmaf(a, b, c); }

// The first source goes to the upper half.
template <class D>
void cvt_rn_f16x2_f32(int, D& d, float high, float low) {
    d = reinterpret<D>(pair_of<__half>(low, high));
}
template <class D>
void cvt_rn_bf16x2_f32(int, D& d, float high, float low) {
    d = reinterpret<D>(pair_of<__nv_bfloat16>(low, high));
}
template <class D>
void cvt_rna_tf32_f32(int, D& d, float value) {
    d = reinterpret<D>(nvcuda::wmma::__float_to_tf32(value));
}

inline void add_sat_s32(int, int& d, int a, int b) {
    if (__builtin_add_overflow(a, b, &d)) d = a < 0 ? INT32_MIN : INT32_MAX;
}
inline void sub_sat_s32(int, int& d, int a, int b) {
    if (__builtin_sub_overflow(a, b, &d)) d = a < 0 ? INT32_MIN : INT32_MAX;
}

#define EMULATOR_ATOM(operation, type, T, function)                            \
    template <class D, class A, class V>                                       \
    void atom_relaxed_##operation##_##type(int, D& d, A* address, V value) {   \
        static_assert(sizeof(D) == sizeof(T) && sizeof(V) == sizeof(T));       \
        d = reinterpret<D>(function(reinterpret_cast<T*>(address), reinterpret<T>(value))); \
    }
EMULATOR_ATOM(add, u32, uint32_t, atomicAdd)
EMULATOR_ATOM(add, u64, uint64_t, atomicAdd)
EMULATOR_ATOM(add, f32, float, atomicAdd)
EMULATOR_ATOM(min, u32, uint32_t, atomicMin)
EMULATOR_ATOM(min, s32, int32_t, atomicMin)
EMULATOR_ATOM(max, u32, uint32_t, atomicMax)
EMULATOR_ATOM(max, s32, int32_t, atomicMax)
#undef EMULATOR_ATOM

// The lowest lane of those that run.
inline void elect(int line, uint32_t& elected) {
    Meeting met = meet("elect.sync", line, live_lanes(), nullptr, 0);
    elected = __builtin_ctz(met.lanes) == (int)lane();
}

}  // namespace emulator::ptx
