from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankers.data.histories import Events, sittings


def by_hand(events, positive, gap_s, history):
    """Return the sittings as a person would write them down."""
    found = []
    for user in sorted(set(events.user.tolist())):
        mine = [place for place in range(len(events.user)) if events.user[place] == user]
        mine.sort(key=lambda place: (events.time_s[place], place))
        liked, last, begun = [], None, None
        for place in mine:
            if last is None or events.time_s[place] - last >= gap_s:
                begun = (events.time_s[place], user, len(found), list(liked), [], [])
                found.append(begun)
            begun[4].append(int(events.item[place]))
            begun[5].append(float(positive[place]))
            if positive[place]:
                liked.append(int(events.item[place]))
            last = events.time_s[place]
    found.sort(key=lambda each: (each[0], each[2]))
    return [(each[1], each[3][-history:], each[4], each[5]) for each in found]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 30), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_sittings_are_those_written_down_by_hand(rows):
    user, item, time_s, positive = (np.array(each) for each in zip(*rows, strict=True))
    events = Events(user, item, time_s.astype(float))
    found = sittings(events, positive=positive, gap_s=5, history=3)
    expected = by_hand(events, positive, 5, 3)
    assert len(found.user) == len(expected)
    for place, (who, history, items, labels) in enumerate(expected):
        start, stop = found.offsets[place : place + 2]
        assert found.user[place] == who
        assert found.history[place].tolist() == history + [0] * (3 - len(history))
        assert found.item[start:stop].tolist() == items
        assert found.label[start:stop].tolist() == labels
