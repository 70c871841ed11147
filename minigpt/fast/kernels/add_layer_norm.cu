// sum = x + branch and y = (sum - mean) * rstd * weight + bias, and the backward of both at once.
// X, A, S, Y and W are the types of x, branch, sum, y and of weight and bias, EPS is what keeps
// the variance from zero.
// A block takes a row at a time and each of its threads four columns of it, so that the row stays
// in registers between the passes over it: one to add it up, one for the variance, one to write.

__device__ float block_sum(float value) {  // over all threads of the block, known to each of them
    __shared__ float warps[32];
    for (int lane = 16; lane > 0; lane /= 2) value += __shfl_xor_sync(~0u, value, lane);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : 0.0f;
    for (int lane = 16; lane > 0; lane /= 2) value += __shfl_xor_sync(~0u, value, lane);
    __syncthreads();  // before the next call writes to `warps`
    return value;
}

extern "C" __global__ void add_layer_norm(
    const X* x, const A* branch, const W* weight, const W* bias,
    S* sum, Y* y, float* means, float* rstds, int rows, int columns
) {
    int column = 4 * threadIdx.x;
    bool inside = column < columns;  // the last warp may reach beyond the row
    Four w = {}, b = {};
    if (inside) w = load(weight + column), b = load(bias + column);
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        long long i = (long long)row * columns + column;
        Four v = {};
        float total = 0.0f, squares = 0.0f;
        if (inside) {
            v = load(x + i);
            Four a = load(branch + i);
            for (int k = 0; k < 4; k++) v.at[k] += a.at[k];
            v = store(sum + i, v);  // as rounded, since that is what backward will see
            for (int k = 0; k < 4; k++) total += v.at[k];
        }
        float mean = block_sum(total) / columns;
        if (inside)
            for (int k = 0; k < 4; k++) squares += (v.at[k] - mean) * (v.at[k] - mean);
        float rstd = rsqrtf(block_sum(squares) / columns + EPS);
        if (inside) {
            for (int k = 0; k < 4; k++) v.at[k] = (v.at[k] - mean) * rstd * w.at[k] + b.at[k];
            store(y + i, v);
        }
        if (threadIdx.x == 0) means[row] = mean, rstds[row] = rstd;
    }
}

// With n = (sum - mean) * rstd and g = grad_y * weight, both over one row, the gradient of sum is
// rstd * (g - mean(g) - n * mean(g n)), plus what comes down the residual stream; x and branch both
// get it. Weight and bias get the columns' sums of grad_y * n and grad_y.
extern "C" __global__ void add_layer_norm_backward(
    const S* grad_sum, const Y* grad_y, const S* sum, const W* weight,
    const float* means, const float* rstds,
    X* grad_x, A* grad_branch, float* partials, int rows, int columns
) {
    int column = 4 * threadIdx.x;
    bool inside = column < columns;
    Four w = {}, sum_w = {}, sum_b = {};
    if (inside) w = load(weight + column);
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        long long i = (long long)row * columns + column;
        float mean = means[row], rstd = rstds[row], total = 0.0f, product = 0.0f;
        Four n = {}, g = {}, grad = {};
        if (inside) {
            n = load(sum + i), g = load(grad_y + i), grad = load(grad_sum + i);
            for (int k = 0; k < 4; k++) {
                n.at[k] = (n.at[k] - mean) * rstd;
                sum_w.at[k] += g.at[k] * n.at[k];
                sum_b.at[k] += g.at[k];
                g.at[k] *= w.at[k];
                total += g.at[k];
                product += g.at[k] * n.at[k];
            }
        }
        float mean_g = block_sum(total) / columns, mean_gn = block_sum(product) / columns;
        if (inside) {
            for (int k = 0; k < 4; k++)
                grad.at[k] += rstd * (g.at[k] - mean_g - n.at[k] * mean_gn);
            store(grad_x + i, grad);
            store(grad_branch + i, grad);
        }
    }
    if (inside) {  // one row per block for weight, then as many for bias; added up by PyTorch
        store(partials + (long long)blockIdx.x * columns + column, sum_w);
        store(partials + (long long)(gridDim.x + blockIdx.x) * columns + column, sum_b);
    }
}
