// Just enough of CUDA to run the project's kernels on a CPU: a thread of the operating system for
// each thread of a block, one block after the other.
#include <cmath>
#include <cstring>
#include <pthread.h>
#include <thread>
#include <utility>
#include <vector>

#define __device__ static
#define __global__
#define __shared__ static

struct Index { unsigned x, y; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim, gridDim;
static pthread_barrier_t all_here;
static float lanes[1024];

static void __syncthreads() { pthread_barrier_wait(&all_here); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
    lanes[threadIdx.x] = value;
    __syncthreads();
    value = lanes[threadIdx.x ^ mask];
    __syncthreads();
    return value;
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static float rsqrtf(float value) { return 1.0f / sqrtf(value); }

// As cuLaunchKernel: `arguments` point to values whose types the kernel alone knows.
template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}

template <typename... P>
void launch(void (*kernel)(P...), Index grid, unsigned threads, void** arguments) {
    gridDim = grid, blockDim = {threads, 1};
    pthread_barrier_init(&all_here, nullptr, threads);
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
            std::vector<std::thread> block;
            for (unsigned i = 0; i < threads; i++)
                block.emplace_back([=] {
                    threadIdx = {i, 0};
                    call(kernel, arguments, std::index_sequence_for<P...>());
                });
            for (std::thread& thread : block) thread.join();
        }
    pthread_barrier_destroy(&all_here);
}
