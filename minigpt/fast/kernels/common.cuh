// What the kernels beside this file share. Nothing is included: NVRTC needs no headers then, and a
// machine with a GPU driver and PyTorch, but without CUDA's toolkit, can compile it.

struct bf16 {
    unsigned short bits;  // the upper half of a float: its sign, its exponent and 7 bits of mantissa
};

__device__ float widen(float value) { return value; }
__device__ float widen(bf16 value) { return __uint_as_float((unsigned)value.bits << 16); }

__device__ void narrow(float value, float& result) { result = value; }
__device__ void narrow(float value, bf16& result) {
    unsigned bits = __float_as_uint(value);
    if (value != value)
        result.bits = 0x7fff;  // the carry below would turn some NaNs into zeros
    else  // round to nearest, ties to even: add just under half of the last place, or half if odd
        result.bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// A thread reads and writes four neighbours at once: 16 bytes of float, 8 of bf16.
template <typename T> struct alignas(4 * sizeof(T)) Packed { T at[4]; };
struct Four { float at[4]; };

template <typename T> __device__ Four load(const T* from) {
    Packed<T> packed = *reinterpret_cast<const Packed<T>*>(from);
    Four values;
    for (int k = 0; k < 4; k++) values.at[k] = widen(packed.at[k]);
    return values;
}

template <typename T> __device__ Four store(T* to, Four values) {  // gives them back as rounded
    Packed<T> packed;
    for (int k = 0; k < 4; k++) {
        narrow(values.at[k], packed.at[k]);
        values.at[k] = widen(packed.at[k]);
    }
    *reinterpret_cast<Packed<T>*>(to) = packed;
    return values;
}
