"""The frame on a GPU: a few Triton kernels of fixed shape, captured once as a CUDA graph and replayed."""
