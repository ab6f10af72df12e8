"""Widgets that run a model while one plays with them: the only pictures that know the library.

Each keeps the model as it is: what is changed inside (taps, the order of frames) is changed by
`blvnet_lab.introspect`, or in a copy.
"""
