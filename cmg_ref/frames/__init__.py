"""Frames of many motions in one table: the states they begin from, the commands they follow, where the root is."""
