"""Grids of runs: their plan, programs, storage and executors."""
