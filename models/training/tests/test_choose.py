"""The share of a run in the weights: the written rule, on the figures of the shipped model."""
from choose import choose


def wer(lj, everyday, flite, noise, espeak):
    """Error rates of one share."""
    return {"lj_main": lj[0], "lj_part": lj[1], "everyday": everyday, "flite": flite, "noise10db": noise, "espeak": espeak}


SHIPPED = {.5: wer((19.9, 16.7), 11.5, .8, 3.7, .5), .6: wer((19.3, 18.4), 11.6, .8, 4.5, .8),
           .8: wer((20.3, 19.5), 12.2, 1.3, 5.3, 1.1), 1.: wer((19.1, 20.6), 13.8, 1.6, 5.9, 1.1)}


def test_the_shipped_model_has_its_share_by_the_rule():
    assert choose(SHIPPED) == (.5, True)


def test_a_strange_voice_heard_better_counts_only_inside_the_bounds():
    better = {**SHIPPED, .6: wer((18., 17.), 11.6, .8, 4.5, .8)}
    assert choose(better) == (.6, True)
    for worse in ((13.6, .8, 4.5, .8), (11.6, 2.1, 4.5, .8), (11.6, .8, 4.6, .8), (11.6, .8, 4.5, .9)):
        assert choose({**better, .6: wer((18., 17.), *worse)}) == (.5, True)


def test_of_two_alike_the_smaller_share_is_taken():
    assert choose({.8: SHIPPED[.5], .5: SHIPPED[.5]}) == (.5, True)


def test_without_a_share_inside_the_bounds_the_nearest_is_taken_and_told():
    assert choose({share: SHIPPED[share] for share in (.8, 1.)}) == (.8, False)


def test_the_shares_of_two_runs_are_picked_together():
    found = {(.5, .3): SHIPPED[.6], (.9, .5): SHIPPED[.5], (.9, 1.): SHIPPED[1.]}
    assert choose(found) == ((.9, .5), True)
