"""Recorded motion: a clip, its quality, and the dataset made of many; formats holds readers and writers."""
