"""Frames and changes of all environments in a few kernels of fixed shape, for recording as a CUDA graph."""
