// y = gelu(x + bias) and its backward. X is the type of the activations, B that of the bias.
// A thread owns four columns and walks down the rows, so that it reads its bias once, and adds up
// the bias's gradient in registers while the gradient of x passes by.

// gelu(h) = h (1 + tanh u) / 2 = h sigmoid(2 u), with u = sqrt(2 / pi) (h + 0.044715 h^3)
__device__ float gate(float h) {
    return 1.0f / (1.0f + expf(-1.5957691216f * (h + 0.044715f * h * h * h)));
}

extern "C" __global__ void bias_gelu(
    const X* x, const B* bias, X* y, int rows, int columns
) {
    int column = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= columns) return;
    Four b = load(bias + column);
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        long long i = (long long)row * columns + column;
        Four v = load(x + i);
        for (int k = 0; k < 4; k++) {
            float h = v.at[k] + b.at[k];
            v.at[k] = h * gate(h);
        }
        store(y + i, v);
    }
}

extern "C" __global__ void bias_gelu_backward(
    const X* grad_y, const X* x, const B* bias, X* grad_x, float* partial_bias, int rows, int columns
) {
    int column = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= columns) return;
    Four b = load(bias + column), sum = {};
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        long long i = (long long)row * columns + column;
        Four v = load(x + i), grad = load(grad_y + i);
        for (int k = 0; k < 4; k++) {
            float h = v.at[k] + b.at[k], s = gate(h);
            float slope = 1.5957691216f * (1.0f + 3.0f * 0.044715f * h * h);  // of 2 u
            grad.at[k] *= s + h * s * (1.0f - s) * slope;
            sum.at[k] += grad.at[k];
        }
        store(grad_x + i, grad);
    }
    store(partial_bias + (long long)blockIdx.y * columns + column, sum);  // added up by PyTorch
}
