"""The numbers of a report, against pycocotools, plain loops, and cases counted by hand."""

import copy

import numpy as np
import pytest
from folders import GOLDENS
from plain_pycocotools import evaluate
from report_helpers import bar, found, random_scene, truth

from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.report import calibration, confusion, curves, errors, matches, ranking
from jaxmaskrcnn.report.axes import label, ticks

CLASSES = 3


def look(content, detections, iou_type="segm", threshold=0.5):
    samples = matches.make_samples(GroundTruth(content), detections, iou_type)
    return samples, [matches.match(sample, threshold) for sample in samples]


def table_of(content, detections, iou_type="segm"):
    samples, matched = look(content, detections, iou_type)
    kinds = [errors.classify(*pair) for pair in zip(samples, matched, strict=True)]
    rows = errors.error_table(samples, matched, kinds, CLASSES)
    return {row.kind: row for row in rows}, samples, kinds


def counts_of(content, detections):
    return {kind: row.count for kind, row in table_of(content, detections)[0].items() if row.count}


# -- matching and curves


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed, iou_type):
    content, detections = random_scene(seed)
    reference = evaluate(content, detections, iou_type)
    for place, threshold in ((0, 0.5), (5, 0.75)):
        samples, matched = look(content, detections, iou_type, threshold)
        pool = matches.pool(samples, matched, CLASSES)
        ours = curves.class_curves(pool)
        theirs = reference.eval["precision"][place, :, :, 0, -1].T
        assert np.isnan(ours[2]).all() and (theirs[2] == -1).all()  # no objects
        np.testing.assert_allclose(ours[:2], theirs[:2], atol=1e-12)
        mean = coco_metrics(content, detections, (iou_type,))
        expected = mean[f"{'box' if iou_type == 'bbox' else 'mask'}_AP{round(100 * threshold)}"]
        assert curves.mean_over_classes(ours).mean() == pytest.approx(expected, abs=1e-12)
        assert 0.05 < expected < 0.95


@pytest.mark.parametrize("seed", range(3))
def test_partners_are_those_of_pycocotools(seed):
    content, detections = random_scene(seed)
    ground_truth = GroundTruth(content)
    samples, matched = look(content, detections)
    theirs = evaluate(content, detections, "segm").evalImgs
    theirs = {(e["category_id"], e["image_id"]): e for e in theirs if e and e["aRng"] == [0, 1e10]}
    ignored = 0
    for sample, mine in zip(samples, matched, strict=True):
        for k, category in enumerate(ground_truth.categories):
            entry = theirs.get((category.id, sample.image_id))
            if entry is None:
                assert not (sample.labels == k).any()
                continue
            of_class = sample.labels == k
            assert (sample.found[of_class] + 1).tolist() == entry["dtIds"]
            expected = np.where(entry["dtIgnore"][0], 0, entry["dtMatches"][0])
            ids = [sample.objects[g] if g >= 0 else 0 for g in mine.partner[of_class]]
            assert ids == expected.tolist()
            np.testing.assert_array_equal(mine.ignored[of_class], entry["dtIgnore"][0].astype(bool))
            ignored += mine.ignored[of_class].sum()
    assert ignored > 3


def test_a_detection_takes_the_nearest_free_object_of_its_class():
    content = truth((1, 3, bar(10)), (1, 3, bar(16)), (1, 17, bar(11)))
    detections = [found(1, 3, 0.5, bar(11)), found(1, 3, 0.9, bar(11)), found(1, 3, 0.4, bar(11))]
    (sample,), (match,) = look(content, detections)
    assert sample.found.tolist() == [1, 0, 2]
    assert match.partner.tolist() == [0, 1, -1] and not match.ignored.any()
    # Of equal ones the last, as in pycocotools.
    twins = truth((1, 3, bar(10)), (1, 3, bar(10)), (1, 3, bar(30)))
    assert look(twins, detections[:1])[1][0].partner.tolist() == [1]


def test_a_crowd_takes_what_finds_nothing_else():
    content = truth((1, 3, bar(60, 0, 0, 60), True), (1, 3, bar(10)))
    detections = [found(1, 3, s, bar(10, x)) for s, x in ((0.9, 0), (0.8, 30), (0.7, 40), (0.6, 55))]
    detections.append(found(1, 17, 0.95, bar(10, 30)))
    (sample,), (match,) = look(content, detections)
    assert sample.found.tolist() == [4, 0, 1, 2, 3]
    assert match.partner.tolist() == [-1, 1, -1, -1, -1]
    # Half of the last one lies in the crowd, which is enough; another class has no crowd here.
    assert match.ignored.tolist() == [False, False, True, True, True]
    pool = matches.pool([sample], [match], CLASSES)
    assert pool.counts.tolist() == [1, 0, 0] and pool.correct.tolist() == [False, True]


def test_no_images_no_objects_no_detections():
    samples, matched = look(truth(images=0), [])
    assert samples == []
    pool = matches.pool(samples, matched, CLASSES)
    assert len(pool.scores) == 0 and np.isnan(curves.class_curves(pool)).all()
    assert curves.mean_over_classes(curves.class_curves(pool)) is None
    assert set(table_of(truth(images=0), [])[0]) == set(errors.KINDS)
    assert calibration.reliability(pool.scores, pool.correct).error is None
    assert np.isnan(curves.operation(pool, np.array([0.5])).recall).all()


@pytest.mark.parametrize("seed", range(2))
def test_operation_counts_like_a_loop(seed):
    samples, matched = look(*random_scene(seed))
    pool = matches.pool(samples, matched, CLASSES)
    thresholds = np.array([0.0, 0.05, 0.3, 0.5, 0.95, 1.0])  # some are scores
    points = curves.operation(pool, thresholds)
    for t, precision, recall, f1 in zip(*points, strict=True):
        kept = [c for s, c in zip(pool.scores, pool.correct, strict=True) if s >= t]
        assert recall == sum(kept) / pool.counts.sum()
        if kept:
            assert precision == sum(kept) / len(kept)
            mean = 2 * precision * recall / (precision + recall) if sum(kept) else 0
            assert f1 == pytest.approx(mean)
        else:
            assert np.isnan(precision) and f1 == 0
        by_class = curves.class_operation(pool, t)
        for k in range(2):
            mine = [c for s, c, n in zip(*pool[:3:2], pool.labels, strict=True) if s >= t and n == k]
            assert by_class[1][k] == sum(mine) / pool.counts[k]
            assert by_class[0][k] == sum(mine) / len(mine) if mine else np.isnan(by_class[0][k])
        assert np.isnan(by_class[1][2])
    assert (points.precision[:4] < 1).all() and (points.recall[:4] > 0).all()


# -- kinds of error

OBJECT = (1, 3, bar(10))


@pytest.mark.parametrize(
    "kind, box, category",
    [
        ("place", bar(4), 3),
        ("place", bar(1), 3),  # exactly 0.1
        ("background", bar(1, height=9), 3),  # 0.09
        ("class", bar(5), 17),  # exactly 0.5
        ("both", bar(4), 17),
        ("both", bar(1), 17),
        ("background", bar(1, height=9), 17),
        ("background", bar(10, 50), 90),
    ],
)
def test_every_kind_alone(kind, box, category):
    expected = {kind: 1} if kind in ("place", "class") else {kind: 1, "missed": 1}
    assert counts_of(truth(OBJECT), [found(1, category, 0.9, box)]) == expected


def test_a_duplicate_and_what_stands_before_it():
    right = found(1, 3, 0.9, bar(10))
    assert counts_of(truth(OBJECT), [right]) == {}
    assert counts_of(truth(OBJECT), [right, found(1, 3, 0.8, bar(5))]) == {"duplicate": 1}
    # By half on an object of another class it is of that kind, by less on its own it is out of place.
    both = truth(OBJECT, (1, 17, bar(9)))
    assert counts_of(both, [right, found(1, 3, 0.8, bar(9))]) == {"class": 1}
    assert counts_of(both, [right, found(1, 3, 0.8, bar(45, height=2))]) == {"place": 1, "missed": 1}
    near = truth(OBJECT, (1, 17, bar(4)))
    assert counts_of(near, [right, found(1, 3, 0.8, bar(4))]) == {"place": 1, "missed": 1}


def test_without_objects_all_is_background_and_without_detections_all_is_missed():
    assert counts_of(truth(), [found(1, 3, 0.9, bar(10))]) == {"background": 1}
    assert counts_of(truth(OBJECT, (1, 17, bar(3, 50))), []) == {"missed": 2}


def test_crowds_neither_miss_nor_count():
    content = truth((1, 3, bar(60, 0, 0, 60), True))
    assert counts_of(content, [found(1, 3, 0.9, bar(10))]) == {}
    assert counts_of(content, [found(1, 17, 0.9, bar(10))]) == {"background": 1}


ONE, HALF = 1.0, 51 / 101  # AP50 where all, or half of the objects are found without a mistake


@pytest.mark.parametrize(
    "kind, extra, before, after",
    [
        ("place", found(1, 3, 0.5, bar(4, 50)), HALF, ONE),
        ("class", found(1, 17, 0.5, bar(10, 50)), HALF, ONE),
        ("missed", found(1, 3, 0.95, bar(10, 80)), HALF / 2, 0.5),
        ("background", found(1, 3, 0.95, bar(10, 80)), HALF / 2, HALF),
        ("duplicate", found(1, 3, 0.95, bar(9)), HALF, HALF),  # takes the place of the right one
        ("both", found(1, 3, 0.95, bar(4, 30)), HALF / 2, HALF),
    ],
)
def test_gains_by_hand(kind, extra, before, after):
    """Two objects of a class, the first found with the score 0.9; one object of another class."""
    content = truth((1, 3, bar(10)), (1, 3, bar(10, 50)), (1, 17, bar(10, 30)))
    detections = [found(1, 3, 0.9, bar(10)), found(1, 17, 0.9, bar(10, 30)), extra]
    rows = table_of(content, detections)[0]
    assert coco_metrics(content, detections)["mask_AP50"] == pytest.approx((before + ONE) / 2)
    assert rows[kind].count == 1
    assert rows[kind].gain == pytest.approx((after - before) / 2)


def test_an_object_is_mended_once_by_the_highest_score():
    content = truth((1, 3, bar(10)), (1, 3, bar(10, 50)))
    detections = [found(1, 3, 0.3, bar(4, 50)), found(1, 3, 0.9, bar(10)), found(1, 3, 0.5, bar(3, 50))]
    rows = table_of(content, detections)[0]
    assert rows["place"].count == 2 and rows["missed"].count == 0
    assert rows["place"].gain == pytest.approx(ONE - HALF)
    # Of an object that was found before, errors of place are taken away.
    detections[0] = found(1, 3, 0.95, bar(4))
    detections.pop()
    rows = table_of(content, detections)[0]
    assert rows["place"].count == 1 and rows["missed"].count == 1
    assert rows["place"].gain == pytest.approx(HALF / 2)


@pytest.mark.parametrize("seed", range(4))
def test_gains_are_those_of_the_mended_files(seed):
    """Each kind is mended in the json files and scored by pycocotools."""
    content, detections = random_scene(seed)
    rows, samples, kinds = table_of(content, detections)
    before = coco_metrics(content, detections)["mask_AP50"]
    objects = {entry["id"]: entry for entry in GroundTruth(content).objects("segm")}
    assert all(row.count for row in rows.values())
    for number, name in enumerate(errors.KINDS):
        mended, kept = copy.deepcopy(content), copy.deepcopy(detections)
        gone, taken = set(), set()
        for sample, match, error in zip(samples, look(content, detections)[1], kinds, strict=True):
            lost = {int(i) for i in sample.objects[error.missed]} if name == "missed" else set()
            # Annotations have new ids from 1 on, in the order of the file.
            for i in lost:
                mended["annotations"][i - 1]["iscrowd"] = None
            taken |= {(sample.image_id, g) for g in match.partner[match.partner >= 0]}
            for d in np.flatnonzero(np.isin(error.kind, (0, 1))):
                place = (sample.image_id, error.target[d])
                first, mine = place not in taken, error.kind[d] == number
                taken.add(place)
                if mine and first:
                    goal = objects[sample.objects[error.target[d]]]
                    kept[sample.found[d]] |= {k: goal[k] for k in ("category_id", "segmentation")}
                elif mine:
                    gone.add(sample.found[d])
            if name not in ("place", "class"):
                gone |= set(sample.found[error.kind == number])
        mended["annotations"] = [a for a in mended["annotations"] if a["iscrowd"] is not None]
        kept = [entry for i, entry in enumerate(kept) if i not in gone]
        assert {a["category_id"] for a in mended["annotations"] if not a["iscrowd"]} == {3, 17}
        after = coco_metrics(mended, kept)["mask_AP50"]
        assert rows[name].gain == pytest.approx(after - before, abs=1e-12), name


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_kinds_and_gains_are_those_of_the_authors_program(seed):
    golden = np.load(GOLDENS / "tide.npz")
    content = truth(*((int(i), int(c), box) for i, c, *box in golden[f"objects_{seed}"]), images=14)
    detections = [found(int(i), int(c), s, box) for i, c, s, *box in golden[f"found_{seed}"].tolist()]
    rows = table_of(content, detections)[0]
    assert [rows[kind].count for kind in errors.KINDS] == golden[f"counts_{seed}"].tolist()
    assert coco_metrics(content, detections)["mask_AP50"] == pytest.approx(golden[f"ap_{seed}"], abs=1e-9)
    # Its recalls are i / 100 and pycocotools' multiples of 0.01, which differ in the last digit, so a
    # recall can be met in the one and missed in the other. It shows losses as 0.
    gains = [max(rows[kind].gain, 0) for kind in errors.KINDS]
    np.testing.assert_allclose(gains, golden[f"gains_{seed}"], rtol=0, atol=2e-4)


def test_a_class_that_is_missed_altogether_counts_nothing_once_it_is_mended():
    content = truth((1, 3, bar(10)), (1, 17, bar(10, 50)))
    detections = [found(1, 3, 0.9, bar(10))]
    assert table_of(content, detections)[0]["missed"].gain == pytest.approx(0.5)
    detections.append(found(1, 17, 0.9, bar(10, 80)))
    assert table_of(content, detections)[0]["missed"].gain == 0


# -- calibration


def test_reliability_by_hand():
    scores = np.array([0.05, 0.1, 0.75, 0.7, 1.0, 0.95])
    correct = np.array([False, True, True, False, True, True])
    bins = calibration.reliability(scores, correct)
    assert bins.counts.tolist() == [1, 1, 0, 0, 0, 0, 0, 2, 0, 2]
    np.testing.assert_allclose(bins.scores[[0, 1, 7, 9]], [0.05, 0.1, 0.725, 0.975])
    np.testing.assert_array_equal(bins.precision[[0, 1, 7, 9]], [0, 1, 0.5, 1])
    assert np.isnan(bins.precision[2])
    assert bins.error == pytest.approx((0.05 + 0.9 + 2 * 0.225 + 2 * 0.025) / 6)


def test_calibrated_scores_have_next_to_no_error():
    rng = np.random.default_rng(0)
    scores = rng.random(20000)
    assert calibration.reliability(scores, rng.random(20000) < scores).error < 0.02
    assert calibration.reliability(scores, rng.random(20000) < scores**2).error == pytest.approx(
        1 / 6, abs=0.02
    )


# -- confusion


def confuse(content, detections, score=0.5):
    samples, matched = look(content, detections)
    return confusion.confusion_matrix(samples, matched, CLASSES, iou_threshold=0.5, score_threshold=score)


def test_confusion_by_hand():
    content = truth((1, 3, bar(10)), (1, 17, bar(10, 30)), (1, 90, bar(10, 60)), (1, 90, bar(9, 60, 50)))
    detections = [
        found(1, 17, 0.95, bar(10)),  # a higher score of the wrong class
        found(1, 3, 0.9, bar(10)),  # does not take the object from the right one
        found(1, 90, 0.8, bar(9, 30)),  # another class
        found(1, 3, 0.7, bar(10, 30)),  # which is taken then
        found(1, 3, 0.6, bar(4, 60)),  # overlaps too little
        found(1, 90, 0.4, bar(10, 60)),  # scores too little
    ]
    assert confuse(content, detections).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 2],
        [2, 1, 0, 0],
    ]
    assert confuse(content, detections, 0.4)[2].tolist() == [0, 0, 1, 1]
    assert confuse(truth(OBJECT), [found(1, 17, 0.9, bar(5))])[0].tolist() == [0, 1, 0, 0]  # exactly half


def test_the_most_confused_are_no_right_ones_and_no_background():
    matrix = np.array([[5, 2, 1], [3, 4, 0], [9, 9, 0]])
    assert confusion.most_confused(matrix, 9) == [(1, 0, 3), (0, 1, 2)]
    assert confusion.most_confused(matrix, 1) == [(1, 0, 3)]
    assert confusion.most_confused(np.diag([3, 4, 0]), 9) == []


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_confusion_counts_every_object_and_detection_once(seed):
    content, detections = random_scene(seed)
    samples, matched = look(content, detections)
    matrix = confuse(content, detections, 0.05)
    pool = matches.pool(samples, matched, CLASSES)
    kept = pool.scores >= 0.05
    assert matrix[:-1].sum(1).tolist() == pool.counts.tolist()
    assert matrix[:, :-1].sum(0).tolist() == np.bincount(pool.labels[kept], minlength=3).tolist()
    assert np.diag(matrix)[:-1].sum() == pool.correct[kept].sum()
    assert matrix[-1, -1] == 0 and matrix[:-1, :-1].sum() > np.trace(matrix) > 0


# -- the worst and the best


def test_quality_by_hand():
    content = truth((1, 3, bar(10)), (1, 3, bar(10, 30)), (1, 3, bar(9, 60), True), images=3)
    detections = [
        found(1, 3, 0.9, bar(8)),
        found(1, 3, 0.8, bar(8, 80)),
        found(1, 3, 0.7, bar(9, 60)),
        found(1, 3, 0.4, bar(10, 30)),
        found(2, 3, 0.9, bar(8)),
    ]
    rated = [ranking.outcome(*pair, 0.5) for pair in zip(*look(content, detections), strict=True)]
    assert rated[0] == (pytest.approx(0.8 / 2), 1, 1, 1)
    assert rated[1] == (0.0, 0, 1, 0)
    assert rated[2] == (None, 0, 0, 0)
    assert ranking.worst_and_best(rated, 6) == ([1], [0])
    assert ranking.worst_and_best(rated, 0) == ([], [])


def test_order_of_the_worst_and_the_best():
    values = [(0.5, 1), (0.0, 1), (1.0, 2), (0.0, 4), (1.0, 7), (None, 0), (0.9, 1)]
    rated = [ranking.Outcome(q, count if q else 0, 0, 0 if q else count) for q, count in values]
    assert ranking.worst_and_best(rated, 2) == ([3, 1], [4, 2])
    assert ranking.worst_and_best(rated, 99) == ([3, 1, 0], [4, 2, 6])


# -- axes


@pytest.mark.parametrize("low, high", [(0, 1), (0, 90000), (-3.2, 0.7), (0, 0.00021), (5, 5.03), (0, 13)])
def test_ticks_are_round_and_inside(low, high):
    values = ticks(low, high, 5)
    assert 3 <= len(values) <= 9 and min(values) >= low - 1e-9 and max(values) <= high + 1e-9
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert float(f"{steps[0]:.0e}") == pytest.approx(steps[0], rel=1e-6)
    assert all(len(label(value)) <= 6 for value in values)
