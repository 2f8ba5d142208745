"""Training a policy: rsl_rl, runs on disk, policies."""
