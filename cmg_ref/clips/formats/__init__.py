"""Clips in the formats of others: readers, writers, and what a file leaves unsaid told from the motion."""
