"""Poses of key frames from redundant measurements."""

import numpy as np
import pytest

from streamer.imaging.registration import prepare_reference
from streamer.tracking.keyframes import Edge, Key, KeyGraph, backwards, carried


@pytest.fixture(scope="module")
def reference():
    image = np.random.default_rng(1).uniform(0.5, 1.0, (64, 64)).astype(np.float32)
    return prepare_reference(image, id=0).small()


def key(number, reference, pose=(0.0, 0.0)):
    return Key(number, ("a", number), pose, 0.0, reference)


def chain(reference, steps, *, limit=64, noise=0.0, seed=0, reach=1):
    """Keys along a path; each measured against so many before it."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(np.vstack([[0, 0], steps]), axis=0).astype(float)
    graph = KeyGraph(limit=limit)
    for number, place in enumerate(path):
        edges = []
        for older in range(max(0, number - reach), number):
            if older in graph.keys:
                shift = place - path[older] + rng.normal(0, noise, 2)
                edges.append(Edge(older, number, (shift[0], shift[1]), max(noise, 0.01)))
        graph.add(key(number, reference, (place[0], place[1])), edges)
    return graph, path


def test_poses_add_up_and_the_origin_stays(reference):
    graph, path = chain(reference, [(10, -3), (8, 2), (11, 0)])
    for number, place in enumerate(path):
        assert graph.keys[number].pose == pytest.approx(tuple(place), abs=1e-6)
    assert graph.keys[0].pose == (0.0, 0.0)
    assert graph.keys[0].sigma_px == 0.0
    assert graph.keys[3].sigma_px > graph.keys[1].sigma_px > 0.0


def test_redundant_measurements_reduce_the_error(reference):
    steps = np.full((20, 2), 5.0)
    wrong = {}
    for reach in (1, 6):
        ends = []
        for seed in range(20):
            graph, path = chain(reference, steps, noise=0.1, seed=seed, reach=reach)
            ends.append(np.subtract(graph.keys[20].pose, path[20]))
        wrong[reach] = np.sqrt(np.mean(np.square(ends)))
    assert wrong[6] < 0.7 * wrong[1]


def test_a_grossly_wrong_measurement_is_dropped(reference):
    graph, path = chain(reference, np.full((6, 2), 5.0), reach=3)
    place = (path[6, 0] + 5.0, path[6, 1])
    right = [Edge(older, 7, (place[0] - path[older, 0], place[1] - path[older, 1]), 0.02) for older in (4, 5, 6)]
    graph.add(key(7, reference, place), [*right, Edge(3, 7, (70.0, 0.0), 0.02)])
    assert graph.keys[7].pose == pytest.approx(place, abs=0.01)


def test_a_key_that_is_given_up_leaves_the_others_where_they_are(reference):
    graph, path = chain(reference, np.full((15, 2), 4.0), limit=5)
    assert len(graph.keys) == 5
    assert {0, 15} <= set(graph.keys)
    for number, item in graph.keys.items():
        assert item.pose == pytest.approx(tuple(path[number]), abs=1e-3)
        assert item.sigma_px < 1.0


def test_a_new_origin_moves_all_poses(reference):
    graph, path = chain(reference, [(10, -3), (8, 2), (11, 0)])
    graph.rebase(2)
    assert graph.keys[2].pose == (0.0, 0.0)
    assert graph.keys[2].sigma_px == 0.0
    assert graph.keys[0].pose == pytest.approx(tuple(-path[2]), abs=1e-6)
    assert graph.keys[0].sigma_px > 0.0


def test_neighbours_come_nearest_first_and_spread_keeps_the_farthest(reference):
    graph, _ = chain(reference, np.tile([10.0, 0.0], (12, 1)))
    assert [item.id for item in graph.nearest((31.0, 0.0), reach_px=25.0)] == [3, 4, 2, 5, 1]
    spread = graph.spread((0.0, 0.0), reach_px=1000.0, count=4)
    assert [spread[0].id, spread[-1].id, len(spread)] == [0, 12, 4]


def test_a_restored_graph_is_the_same(reference):
    graph, _ = chain(reference, [(10, -3), (8, 2)])
    again = KeyGraph.restore(graph.snapshot())
    assert {number: item.pose for number, item in again.keys.items()} == {
        number: item.pose for number, item in graph.keys.items()}
    assert again.edges == graph.edges


def test_rotations_about_a_key_are_carried_to_the_origin():
    """Forth and back again is nowhere; a turn by 90 degrees moves +x to +y."""
    shift = carried((0.0, 100.0), (0.0, 0.0), 90.0)
    assert shift == pytest.approx((100.0, -100.0))
    assert carried((50.0, 20.0), (1.0, 2.0), None) == (1.0, 2.0)
    back = backwards((3.0, -4.0), 30.0)
    forth = carried(back, (3.0, -4.0), 30.0)   # where the way back leads to, seen from the start
    assert (back[0] + forth[0], back[1] + forth[1]) == pytest.approx((0.0, 0.0))


def test_magnifications_about_a_key_are_carried_to_the_origin():
    """What lies 100 px from the centre comes half a pixel further out; forth and back again is nowhere."""
    assert carried((0.0, 100.0), (0.0, 0.0), None, 0.005) == pytest.approx((0.0, 0.5))
    back = backwards((3.0, -4.0), 2.0, 0.01)
    forth = carried(back, (3.0, -4.0), 2.0, 0.01)
    assert (back[0] + forth[0], back[1] + forth[1]) == pytest.approx((0.0, 0.0))
