"""Recalibration: an increasing function of the score, fitted to clicks and folded into a program.

`optimize.recalibration.fitting` fits it, `optimize.recalibration.judging` says on other requests
whether it helps, `optimize.recalibration.folding` puts it into the graph.
"""
