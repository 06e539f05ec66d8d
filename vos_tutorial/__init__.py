"""Video object segmentation, built step by step: the finished form of what the notebooks build."""

__version__ = "0.1.0"
