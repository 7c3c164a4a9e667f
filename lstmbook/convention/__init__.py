"""Which convention are these weights in? Found from the arrays and one input/output pair.

`detect` takes the arrays of one recurrent layer, under any names, with an input and the output
that the layer gave for it. It tries every convention that the shapes allow: which array is what,
orientation, ``[x, h]`` or ``[h, x]``, gate order, biases, forget bias, activations, reset, blend,
coupling, peepholes, axes and state order. It names the one that computes the outputs, or all that
do and a probe that tells them apart, or says that none does and which is nearest.

`detect_file` reads the same from ``.npz`` files: the arrays under any names but those of the pair,
which are ``x`` and ``y`` and, if known, ``h0``, ``c0`` (initial state), ``hn``, ``cn`` (final
state) and ``lengths``. All can stand in one file, or the pair in a second one.
"""

from .detect import detect, detect_file
from .report import Detection, Match, Probe

__all__ = ["Detection", "Match", "Probe", "detect", "detect_file"]
