"""Rewards and observations as plain functions of tensors, for any environment."""
