"""Tracking on generated clips: identities, MOTA and IDF1 against an independent count, lines and regions."""

import itertools
import re

import numpy as np
import pytest
from folders import ROOT
from moving_scenes import CLIPS, HEIGHT, WIDTH, Mover, clip, followed, make

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.tracking.counting import LineCounter, RegionCounter
from jaxmaskrcnn.tracking.following import Follower, TrackingOptions, read_points
from jaxmaskrcnn.tracking.measures import Frame, tracking_scores
from jaxmaskrcnn.tracking.places import Place, iou, overlap, place_of
from jaxmaskrcnn.tracking.tracker import Tracker


def counted(truth, found):
    """MOTA, IDF1 and switches anew: all assignments are tried, and masks are compared on the whole frame."""

    def whole(place):
        mask = np.zeros((3 * HEIGHT, 3 * WIDTH), bool)
        y, x = place.origin.astype(int) + (HEIGHT, WIDTH)
        mask[y : y + place.window.shape[0], x : x + place.window.shape[1]] = place.window
        return mask

    last, missed, false, switches, objects, detections = {}, 0, 0, 0, 0, 0
    shared = {}
    for there, here in zip(truth, found, strict=True):
        near = {}
        for n, p in zip(there.numbers, there.places, strict=True):
            for m, q in zip(here.numbers, here.places, strict=True):
                a, b = whole(p), whole(q)
                value = (a & b).sum() / (a | b).sum()
                if value >= 0.5:
                    near[n, m] = value
                    shared[n, m] = shared.get((n, m), 0) + 1
        pairs = {n: last[n] for n in there.numbers if (n, last.get(n)) in near}
        rest = [(n, m) for n, m in near if n not in pairs and m not in pairs.values()]
        best = max(
            (chosen for size in range(len(rest) + 1) for chosen in itertools.combinations(rest, size)
             if len({n for n, _ in chosen}) == len({m for _, m in chosen}) == size),
            key=lambda chosen: sum(near[pair] for pair in chosen),
        )  # fmt: skip
        pairs |= dict(best)
        switches += sum(last.get(n, m) != m for n, m in pairs.items())
        last |= pairs
        missed += len(there.numbers) - len(pairs)
        false += len(here.numbers) - len(pairs)
        objects += len(there.numbers)
        detections += len(here.numbers)
    names = sorted({n for n, _ in shared})
    tracks = sorted({m for _, m in shared})
    columns = tracks + [None] * len(names)
    both = max(
        sum(shared.get((n, m), 0) for n, m in zip(names, order, strict=False))
        for order in itertools.permutations(columns, len(names))
    )
    return 1 - (missed + false + switches) / objects, 2 * both / (objects + detections), switches


class Alternating:
    """Wrong on purpose: identities are exchanged, lost and given anew."""

    def __init__(self):
        self.frame = 0

    def __call__(self, result, size):
        self.frame += 1
        rows = np.argsort(result["boxes"][:, 0])
        numbers = np.zeros(len(rows), int)
        numbers[rows] = [(rank + self.frame // 7) % 3 + 1 for rank in range(len(rows))]
        return numbers if self.frame % 5 else np.zeros(len(rows), int)


@pytest.mark.parametrize("tracker", [Tracker, Alternating])
def test_scores_are_those_of_an_independent_count(tracker):
    results, truth = clip(CLIPS["crossing"][0]["movers"], 36, lost=0.1, jitter=2, seed=4)
    found = followed(results, tracker())
    scores = tracking_scores(truth, found)
    mota, idf1, switches = counted(truth, found)
    assert (scores.mota, scores.idf1, scores.switches) == (pytest.approx(mota), pytest.approx(idf1), switches)
    if tracker is Alternating:
        assert switches > 3 and idf1 < 0.8 and mota < 0.9


def test_an_object_stays_with_its_track_while_that_is_near_enough():
    """As MOTA defines it: a better detection does not take it over."""

    def place(x):
        return Place(np.ones((10, 10), bool), np.array([0.0, x]), 100, np.array([x + 5, 5]))

    truth = [Frame([1], [place(0)])] * 3
    found = [Frame([7], [place(0)]), Frame([7, 8], [place(2), place(0)]), Frame([7, 8], [place(0), place(6)])]
    scores = tracking_scores(truth, found)
    assert (scores.switches, scores.missed, scores.false) == (0, 0, 2)
    assert scores.mota == pytest.approx(counted(truth, found)[0]) and scores.idf1 == pytest.approx(6 / 8)


@pytest.mark.parametrize("name", [name for name, (_, apart) in CLIPS.items() if apart])
def test_no_identity_changes_where_masks_never_touch(name):
    results, truth = make(name)
    for frame in truth:
        assert not any(overlap(a, b) for a, b in itertools.combinations(frame.places, 2))
    found = followed(results, Tracker())
    scores = tracking_scores(truth, found)
    assert scores.switches == 0 and scores.false == 0
    assert len({n for frame in found for n in frame.numbers}) == len(CLIPS[name][0]["movers"])
    if "lost" not in name:
        assert scores.idf1 == scores.mota == 1


@pytest.mark.parametrize("name", ["crossing", "crossing, two classes", "behind a wall"])
def test_objects_that_hide_each_other_keep_their_identity(name):
    results, truth = make(name)
    scores = tracking_scores(truth, followed(results, Tracker()))
    assert scores.switches == 0 and scores.idf1 == 1


def test_one_who_is_away_for_longer_than_the_memory_is_another():
    hidden = [Mover((10, 60), (3, 0))]
    results, truth = clip(hidden, 45, wall=(50, 110))
    away = sum(not frame.numbers for frame in truth)
    assert 10 < away < 25
    for memory, identities in ((away, 1), (away - 1, 2)):
        found = followed(results, Tracker(memory=memory))
        assert len({n for frame in found for n in frame.numbers}) == identities


def test_an_identity_is_given_after_some_frames():
    results, _ = clip([Mover((10, 60), (3, 0))], 5)
    assert [frame.numbers for frame in followed(results, Tracker(birth=3))] == [[], [], [1], [1], [1]]
    # A detection of a single frame never gets one.
    single = [
        results[0],
        *({**r, "boxes": r["boxes"][:0], "labels": r["labels"][:0], "masks": []} for r in results),
    ]
    assert not any(frame.numbers for frame in followed(single, Tracker(birth=2)))


def test_one_who_leaves_does_not_come_back_as_another():
    """The next one enters where the last one left, after a few frames."""
    results, _ = clip([Mover((140, 60), (2, 0)), Mover((206, 60), (-2, 0))], 30)
    found = followed(results, Tracker())
    numbers = [frame.numbers for frame in found if frame.numbers]
    assert numbers[0] == [1] and numbers[-1] == [2]


def test_a_class_that_flickers_keeps_the_identity():
    results, _ = clip([Mover((10, 60), (2, 0))], 12)
    for frame in (4, 5, 9):
        results[frame]["labels"][:] = 2
    assert [frame.numbers for frame in followed(results, Tracker())] == [[1]] * 12


def test_boxes_alone_are_followed_too():
    results, truth = make("apart")
    plain = [{k: v for k, v in result.items() if k != "masks"} for result in results]
    numbers = [Frame(f.numbers, f.places) for f in followed(plain, Tracker())]
    assert tracking_scores(truth, numbers).switches == 0
    place = place_of({"boxes": [[1.2, 2, 4, 6.7]]}, 0)
    assert place.window.shape == (5, 3) and place.origin.tolist() == [2, 1]


def test_overlaps_are_those_of_whole_masks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        whole = np.zeros((2, 40, 50), bool)
        places = []
        for mask in whole:
            h, w = rng.integers(1, 20, 2)
            y, x = rng.integers(0, 40 - h), rng.integers(0, 50 - w)
            window = rng.random((h, w)) < 0.6
            mask[y : y + h, x : x + w] = window
            centre = np.array([x + w / 2, y + h / 2])
            places.append(Place(window, np.array([y, x], float), max(1, int(window.sum())), centre))
        both = (whole[0] & whole[1]).sum()
        assert overlap(*places) == both
        assert iou(*places) == pytest.approx(both / max(1, (whole[0] | whole[1]).sum()))


def test_a_line_counts_those_who_cross_it():
    counter = LineCounter((50, 80, 50, 20))  # upwards: to the right is to the larger x
    ways = {
        1: [(40, 50), (60, 50)],  # to the right
        2: [(60, 50), (40, 50), (60, 40)],  # to the left and back
        3: [(40, 90), (60, 90)],  # beneath its end
        4: [(40, 50), (49, 50)],  # not across
        0: [(40, 50), (60, 50)],  # nobody yet
        5: [(45, 50), (50, 50), (55, 50)],  # by way of a point on it
    }
    for frame in range(3):
        here = {number: way[frame] for number, way in ways.items() if frame < len(way)}
        counter.add(list(here), list(here.values()))
    assert (counter.to_right, counter.to_left) == (3, 1)
    back = LineCounter((50, 20, 50, 80))
    for x in (40, 60):
        back.add([1], [(x, 50)])
    assert (back.to_right, back.to_left) == (0, 1)


def test_a_region_counts_those_inside():
    counter = RegionCounter((10, 10, 50, 10, 50, 50, 30, 30, 10, 50))  # a notch below
    assert counter.contains((20, 20)) and counter.contains((12, 40)) and not counter.contains((30, 40))
    assert not counter.contains((5, 20)) and not counter.contains((60, 20))
    counter.add([1, 2, 0], [(20, 20), (40, 20), (20, 15)])
    counter.add([1, 3], [(20, 20), (90, 20)])
    assert (counter.inside, counter.most, counter.objects) == (1, 2, {1, 2})


def test_a_video_is_followed_as_a_whole():
    results, _ = make("apart")
    options = TrackingOptions(
        trail=4, lines=((60, HEIGHT, 60, 0),), regions=((0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT),)
    )
    follower = Follower(options)
    frames = [follower(result, (HEIGHT, WIDTH)) for result in results]
    assert frames[-1].counts == {"lines": [[5, 0]], "regions": [5]}
    assert follower.sentences() == [
        "line 1: 5 to the right, 0 to the left", "region 1: 5 objects, at most 5 at a time"
    ]  # fmt: skip
    assert [len(trail) for trail in frames[-1].trails] == [4] * 5
    last = results[-1]["boxes"]
    centres = (last[:, :2] + last[:, 2:]) / 2
    np.testing.assert_allclose([trail[-1] for trail in frames[-1].trails], centres)
    assert Follower(options._replace(trail=0))(results[0], (HEIGHT, WIDTH)).trails == []


def test_coordinates_that_make_no_sense_are_refused():
    assert read_points(["1,2,3,4"], 4) == ((1, 2, 3, 4),)
    for text, count in (
        ("1,2,3", 4),
        ("a,2,3,4", 4),
        ("1,2,3,4", None),
        ("1,2,3,4,5,6,7", None),
        ("1,2,nan,4", 4),
    ):
        with pytest.raises(ValueError):
            read_points([text], count)
    with pytest.raises(UserError, match="to itself; give two points"):
        LineCounter((1, 2, 1, 2))
    with pytest.raises(UserError, match="give x and y of three or more vertices"):
        RegionCounter((1, 2, 3, 4))
    for options in ({"memory": -1}, {"birth": 0}):
        with pytest.raises(UserError):
            Tracker(**options)


@pytest.mark.slow
def test_the_table_of_the_page_is_right():
    """docs/tracking.md has the scores of all clips."""
    page = (ROOT / "docs" / "tracking.md").read_text()
    for name, (options, _) in CLIPS.items():
        results, truth = make(name)
        scores = tracking_scores(truth, followed(results, Tracker()))
        row = f"| {name} | {len(options['movers'])} | {scores.objects} | {scores.switches} | "
        assert f"{row}{scores.idf1:.3f} | {scores.mota:.3f} |" in re.sub(" +", " ", page), name
