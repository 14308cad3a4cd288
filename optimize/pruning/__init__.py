"""Pruning of dense layers in a program: neurons that are cut out, and weights that become zero.

`optimize.pruning.coupling` finds which neurons must go together, `optimize.pruning.statistics` what
each is worth, `optimize.pruning.allocation` which go, `optimize.pruning.cutting` takes them out.
"""
