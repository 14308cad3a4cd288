"""The user's part of a ranker as a program of its own, whose result a client keeps.

`cut` makes two graphs of one, `state` is what is kept between them, `predictor` runs them.
docs/user-once.md tells what for.
"""
