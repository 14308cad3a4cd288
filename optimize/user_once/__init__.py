"""One user, N candidates: what depends on the user alone is computed once a request.

`rewriting` has the way from a flat program to one that takes requests as they are, `rewrites` the
exact algebra where user meets item, `split` the cut itself. docs/user-once.md tells how.
"""
