"""Widgets that run a model while one plays with them: the only pictures that know the library.

Each keeps the model as it is: what is changed inside (taps, the order of frames) is changed by
`blvnet_lab.introspect` for one forward pass at a time.
"""

from blvnet_lab.viz.explorers.branch import BranchExplorer
from blvnet_lab.viz.explorers.clip import ClipExplorer
from blvnet_lab.viz.explorers.live import LiveView
from blvnet_lab.viz.explorers.tam import TamExplorer

__all__ = ["BranchExplorer", "ClipExplorer", "LiveView", "TamExplorer"]
