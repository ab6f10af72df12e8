"""Efficient video models you can open up: bLVNet-TAM, as a small library and a course.

The model is that of Fan, Chen, Kuehne, Pistoia and Cox, "More Is Less: Learning Efficient Video
Representations by Big-Little Network and Depthwise Temporal Aggregation" (NeurIPS 2019,
arXiv 1912.00869). The one line it all turns on is in `blvnet_lab/models/tam.py`.
"""

from blvnet_lab.threads import choose_threads

__version__ = "0.1.0"
BUSY = choose_threads()  # before PyTorch is imported
