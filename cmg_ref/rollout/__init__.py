"""From a state and a command to the next state and the root's motion: in torch, Numba or a CUDA graph."""
