"""Sentences: what is held out never gets into training."""
import random

import grammar


def test_training_sentences_are_never_held_out():
    s, r = grammar.Sentences(["this is an open sentence", "she put the groceries away and then slept"]), random.Random(3)
    drawn = {s(r) for _ in range(4000)}
    assert not any(grammar.is_held_out(t) for t in drawn)
    assert drawn.isdisjoint(grammar.held_out_sentences(120))
    assert drawn.isdisjoint(grammar.EVERYDAY_TEST)


def test_open_text_that_shares_five_words_with_the_everyday_test_is_dropped():
    assert grammar.is_held_out("and i forgot to charge my phone today")


def test_sizes_asked_for():
    s = grammar.Sentences()
    assert len(s.domain_words) >= 1000 and len(s.words) >= 2500
    assert len(grammar.EVERYDAY_TEST) >= 120
    inside = sum(set(t.split()) <= set(s.domain_words) for t in grammar.EVERYDAY_TEST)
    assert inside < len(grammar.EVERYDAY_TEST) / 10


def test_word_forms():
    assert [grammar.plural(w) for w in ("box", "city", "boy", "knife", "sheep")] == ["boxes", "cities", "boys", "knives", "sheep"]
    assert [grammar.past(w) for w in ("bake", "carry", "stop", "walk")] == ["baked", "carried", "stopped", "walked"]
    assert [grammar.ing(w) for w in ("bake", "lie", "see", "run", "walk")] == ["baking", "lying", "seeing", "running", "walking"]
    assert [grammar.third(w) for w in ("go", "have", "carry", "watch", "walk")] == ["goes", "has", "carries", "watches", "walks"]


def test_everyday_words_stay_as_they_are():
    s, r = grammar.Sentences(), random.Random(1)
    assert s.fill("they {verb}", {"verb": ["impress"]}, r) == "they impress"
    assert s.fill("a {thing} for the {person}", {"thing": ["apron"], "person": ["princess"]}, r) == "an apron for the princess"


def test_only_letters_that_have_a_token():
    s, r = grammar.Sentences(), random.Random(5)
    for _ in range(2000):
        assert set(s(r)) <= set("abcdefghijklmnopqrstuvwxyz' ")
