"""Where a generator's frames come from: made as they are needed, ahead of time, or drawn from a pool."""
