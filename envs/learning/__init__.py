"""Training a policy and judging it: rsl_rl, runs on disk, policies, their evaluation and export."""
