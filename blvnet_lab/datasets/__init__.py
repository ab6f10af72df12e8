"""Data sets as they are published and stored: layouts, subsets, re-encoded copies, sample clips."""
