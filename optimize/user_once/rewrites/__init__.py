"""Exact algebra where user meets item. One file a rewrite.

Each takes a flat graph, rewrites it in place into one that computes the same (up to the order in
which floating-point numbers are added), and returns what it did, a line each. A rewrite leaves
alone what it would not make cheaper by `optimize.user_once.cost`.
"""
