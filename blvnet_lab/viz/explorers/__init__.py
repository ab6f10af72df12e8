"""Widgets, most of which run a model while you play: the only part of `viz` that knows models.

The model itself stays unchanged: taps and the order of frames are edited with
`blvnet_lab.introspect`, or in a copy.
"""
