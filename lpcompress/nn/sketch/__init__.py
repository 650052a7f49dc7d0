"""Layers that hold two sketches of their weight, for training; and the way there from a dense layer."""

from lpcompress.nn.sketch.convolution import SketchedConv1d, SketchedConv2d
from lpcompress.nn.sketch.layer import SketchedLayer
from lpcompress.nn.sketch.linear import SketchedLinear
from lpcompress.nn.sketch.start import sketch_error, sketched_like

__all__ = ["SketchedConv1d", "SketchedConv2d", "SketchedLayer", "SketchedLinear", "sketch_error", "sketched_like"]
