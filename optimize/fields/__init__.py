"""Which features a ranker can do without, and programs that do without them.

`optimize.fields.importance` says what each feature is worth, `optimize.fields.constants` what may
stand in its place, `optimize.fields.choosing` which go under a budget, `optimize.fields.dropping`
takes them out of the graph.
"""
