"""Data sets as published and stored: layouts, subsets, re-encoded copies, sample clips."""
