"""Whole runs: train, evaluate, predict, plan, and the staircase of six networks."""
