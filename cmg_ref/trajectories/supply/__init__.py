"""Where a generator's frames come from, for each mode: made as needed, ahead, or drawn from a pool; and what is on show."""
